// The page: what a person does changes the state below, and each part is drawn from it.

import { makeCurl } from "./curl.js";
import { makePad } from "./draw.js";
import { SIGNED, findCrop, loadColormaps, makeMap, paint, paintScale } from "./map.js";
import { describeCheck, describeModel, describeMap, make, makeClass, makeOption, makeTimings, outline } from "./parts.js";
import * as service from "./service.js";
import { listExamples, listen, takesDrawings } from "./sources.js";

const SIDES = [448, 1024]; // of the drawn map's longer side
const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
const { model: modelSelect, stage, picture: image, heat, other, against } = elements;

const state = {
  models: [],
  model: null,
  picture: null, // {blob, name, and where it is from: isFile or path}
  answer: null,
  maps: new Map(), // explanations by "target" or "target-against"
  target: null,
  against: null,
  drawing: false,
};
let asked = new AbortController();
let colormaps;

const pad = makePad(elements.pad, async () => open({ blob: await pad.read(), name: "drawing.png" }));
listen(leaveDrawing(open), elements.file, elements.viewport);

async function start() {
  colormaps ??= await loadColormaps();
  state.models = await service.fetchModels();
  const isReady = ({ state }) => state === "ready";
  modelSelect.replaceChildren(...state.models.map((model) => makeOption(model.id, describeModel(model), !isReady(model))));
  const chosen = state.models.find((model) => model.isDefault && isReady(model)) ?? state.models.find(isReady);
  if (!chosen) throw new service.Refusal(0, "No model is ready yet: load the page again in a moment.");
  modelSelect.disabled = false;
  modelSelect.value = chosen.id;
  useModel();
}

function useModel() {
  state.model = state.models.find(({ id }) => id === modelSelect.value);
  const { card } = state.model;
  const options = card.labels.map((label, index) => makeOption(index, label));
  other.replaceChildren(makeOption("", "…"), ...options);
  against.replaceChildren(makeOption("", "…"), ...options.map((option) => option.cloneNode(true)));
  elements.examples.replaceChildren(...listExamples(card, leaveDrawing(open)));
  elements.draw.hidden = !takesDrawings(card);
  if (elements.draw.hidden && state.drawing) setDrawing(false);
  if (state.picture) return open(state.picture);
}

async function open(picture) {
  state.picture = picture;
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  elements.viewport.classList.add("busy");
  await attempt(async () => {
    const answer = await service.explainTop(picture, state.model, signal);
    if (!state.drawing) await showPicture(picture, answer.image);
    if (signal.aborted) return;
    state.answer = answer;
    state.maps = new Map(answer.explanations.map((found) => [`${found.target.index}`, found]));
    state.target = answer.predictions[0].index;
    state.against = null;
    showStage();
    await showTarget();
  });
  if (!signal.aborted) elements.viewport.classList.remove("busy");
}

/** What the browser can't read (TIFF …) or would turn otherwise, the service draws for it. */
async function showPicture(picture, { width, height }) {
  const show = async (blob) => {
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    await image.decode();
    return image.naturalWidth === width && image.naturalHeight === height;
  };
  if (await show(picture.blob).catch(() => false)) return;
  await show(await service.drawPicture(picture, { model: state.model.id, alpha: 0, size: 0 }));
}

function showStage() {
  const { width, height } = state.answer.image;
  const [left, top, right, bottom] = findCrop(width, height, state.model.card.input);
  stage.style.width = `${100 * Math.min(1, width / height)}%`;
  stage.style.height = `${100 * Math.min(1, height / width)}%`;
  stage.classList.toggle("tiny", Math.max(width, height) < SIDES[0] / 2);
  stage.hidden = false;
  image.hidden = state.drawing;
  image.alt = state.picture.name;
  elements.pad.hidden = !state.drawing;
  elements.invitation.hidden = true;
  const factor = Math.min(Math.max(Math.max(width, height), SIDES[0]), SIDES[1]) / Math.max(width, height);
  heat.width = Math.max(1, Math.round(width * factor));
  heat.height = Math.max(1, Math.round(height * factor));
  elements.crop.hidden = right - left > width - 1 && bottom - top > height - 1;
  outline(elements.crop, [left, top, right, bottom], state.answer.image);
  elements.result.hidden = false;
  elements.hint.hidden = true;
  elements.curl.hidden = true;
  elements.timings.replaceChildren(...makeTimings(state.answer.timings));
}

/** Show the map of the state's target: at hand, or asked for. */
async function showTarget() {
  const key = nameMap();
  const { maps } = state;
  if (!maps.has(key)) {
    maps.set(key, await service.explainOne(state.picture, state.model, state.target, state.against));
    if (maps !== state.maps || key !== nameMap()) return; // something else was chosen meanwhile
  }
  const found = maps.get(key);
  if (!state.answer.predictions.some(({ index }) => index === state.target)) {
    state.answer.predictions.push(found.target);
  }
  against.value = state.against ?? "";
  other.value = "";
  elements.verdict.textContent = "";
  listClasses();
  showMap(found);
}

const nameMap = () => (state.against === null ? `${state.target}` : `${state.target}-${state.against}`);

function showMap(found = state.maps.get(nameMap())) {
  if (!found) return; // it is on its way
  const view = document.querySelector("[name=view]:checked").value;
  const { input } = state.model.card;
  const { width, height } = state.answer.image;
  const colours = colormaps[elements.colormap.value];
  const crop = findCrop(width, height, input).map((edge, i) => edge / (i % 2 ? height : width));
  paint(heat, makeMap(found.cam, input, view, found.empty), crop, view, colours);
  paintScale(elements.scale, view, colours);
  const isSigned = view === SIGNED;
  elements["scale-low"].textContent = isSigned ? "against" : "none";
  elements["scale-high"].textContent = isSigned ? "for" : "most";
  elements.colormap.disabled = isSigned;
  elements.box.hidden = !found.box || isSigned || !elements["show-box"].checked;
  if (found.box) outline(elements.box, found.box, state.answer.image);
  elements.caption.textContent = describeMap(found, isSigned);
  elements.caption.classList.toggle("empty", found.empty);
}

function listClasses() {
  const { activeElement } = document;
  const focused = elements.classes.contains(activeElement) ? activeElement.value : null;
  elements.classes.replaceChildren(
    ...state.answer.predictions.map((prediction) =>
      makeClass(prediction, prediction.index === state.target, (index) => choose({ target: index })),
    ),
  );
  if (focused !== null) elements.classes.querySelector(`[value="${focused}"]`)?.focus();
}

function choose(change) {
  Object.assign(state, change);
  if (state.against === state.target) state.against = null;
  return attempt(showTarget);
}

function setDrawing(on) {
  state.drawing = on;
  elements.draw.ariaPressed = String(on);
  elements.clear.hidden = !on;
  pad.clear();
  clearResult();
  state.picture = null;
  if (!on) return;
  elements.error.hidden = true;
  Object.assign(stage.style, { width: "100%", height: "100%" });
  stage.hidden = elements.pad.hidden = false;
  image.hidden = elements.invitation.hidden = true;
  elements.caption.textContent = "Draw a digit, large and in the middle.";
}

function clearResult() {
  state.answer = null;
  stage.hidden = elements.result.hidden = true;
  elements.hint.hidden = elements.invitation.hidden = false;
  elements.box.hidden = elements.crop.hidden = true;
  heat.width = heat.width; // wipes it
  elements.caption.textContent = elements.verdict.textContent = "";
}

/** Do something that the service may refuse; its sentence is shown. */
async function attempt(act) {
  elements.error.hidden = elements["key-form"].hidden = true;
  try {
    await act();
  } catch (fault) {
    if (fault.name === "AbortError") return;
    if (!(fault instanceof service.Refusal)) throw fault;
    elements.result.hidden = true;
    if (!state.drawing) clearResult();
    elements["key-form"].hidden = fault.status !== 401;
    elements.error.textContent = fault.message;
    elements.error.hidden = fault.status === 401 && !service.hasKey();
    if (fault.status === 401) elements.key.focus();
  }
}

function describeShown() {
  return {
    model: state.model.id,
    ...service.nameTarget(state.target, state.against),
    view: document.querySelector("[name=view]:checked").value,
    alpha: elements.opacity.value,
    colormap: elements.colormap.value,
  };
}

function leaveDrawing(act) {
  return (picture) => {
    if (state.drawing) setDrawing(false);
    return act(picture);
  };
}

modelSelect.addEventListener("change", useModel);
other.addEventListener("change", () => other.value && choose({ target: Number(other.value) }));
against.addEventListener("change", () => choose({ against: against.value === "" ? null : Number(against.value) }));
for (const control of [elements.colormap, elements["show-box"], ...document.querySelectorAll("[name=view]")]) {
  control.addEventListener("change", () => showMap());
}
elements.opacity.addEventListener("input", () => {
  heat.style.opacity = elements.opacity.value;
  elements["opacity-value"].textContent = `${Math.round(100 * elements.opacity.value)} %`;
});
heat.style.opacity = elements.opacity.value;
elements.draw.addEventListener("click", () => setDrawing(!state.drawing));
elements.clear.addEventListener("click", () => setDrawing(true));
elements.check.addEventListener("click", () =>
  attempt(async () => {
    const { maps, target, against } = state;
    const { verification } = await service.explainOne(state.picture, state.model, target, against, true);
    if (maps === state.maps && target === state.target && against === state.against) {
      elements.verdict.textContent = describeCheck(verification);
    }
  }),
);
elements.copy.addEventListener("click", async () => {
  const line = await makeCurl(state.picture, describeShown(), service.hasKey());
  elements.curl.textContent = line;
  elements.curl.hidden = false;
  await navigator.clipboard?.writeText(line).catch(() => getSelection().selectAllChildren(elements.curl));
});
elements.download.addEventListener("click", () =>
  attempt(async () => {
    const blob = await service.drawPicture(state.picture, describeShown());
    const link = Object.assign(make("a"), { href: URL.createObjectURL(blob), download: "heatmap.png" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }),
);
elements["key-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  service.useKey(elements.key.value);
  attempt(() => (state.model && state.picture ? open(state.picture) : start()));
});
attempt(start);
