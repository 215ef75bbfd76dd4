// What the page knows. Every part reads it.

export const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

export const state = {
  models: [], // as `fetchModels` returns them
  model: null, // the chosen one
  pending: null, // a picture without an answer yet: {blob, name} and its source: isFile, or example
  shown: null, // {picture, model, answer, maps by `nameMap`, target, against, region (of a mask, or null), verification}
  drawing: false,
};

export const nameMap = ({ target, against, region }) =>
  `${target}${against === null ? "" : `-${against}`}${region ? ` in ${JSON.stringify(region)}` : ""}`;

/** The map on the screen, or undefined. */
export const getShownMap = () => state.shown?.maps.get(nameMap(state.shown));

/** The chosen view: "overlay", "signed", or "parts" for a mask. */
export const getView = () => document.querySelector("[name=view]:checked").value;
