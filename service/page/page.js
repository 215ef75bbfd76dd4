// The page. Each action of a person changes the state below, and each part is drawn from it.

import { makeCurl } from "./curl.js";
import { makePad } from "./draw.js";
import { SIGNED, findCrop, loadColormaps, makeMap, paint, paintScale } from "./map.js";
import { describeCheck, describeModel, describeMap, describeOrigin, makeClass, makeElement, makeOption, makeTimings, placeOnPicture } from "./parts.js";
import * as service from "./service.js";
import { acceptsDrawings, listExamples, listenForPictures } from "./sources.js";

const HEAT_SIDES = [448, 1024]; // smallest and largest longer side of the drawn map
const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
const { model: modelSelect, stage, picture: image, heat, other, against } = elements;

const state = {
  models: [],
  model: null,
  picture: null, // {blob, name} and its source: isFile or path
  answer: null,
  maps: new Map(), // explanations by "target" or "target-against"
  target: null,
  against: null,
  drawing: false,
};
let currentCall = new AbortController();
let colormaps;

const pad = makePad(elements.pad, async () => open({ blob: await pad.read(), name: "drawing.png" }));
listenForPictures(endDrawingThen(open), elements.file, elements.viewport);

async function start() {
  colormaps ??= await loadColormaps();
  state.models = await service.fetchModels();
  const isReady = ({ state }) => state === "ready";
  modelSelect.replaceChildren(...state.models.map((model) => makeOption(model.id, describeModel(model), !isReady(model))));
  const initial = state.models.find((model) => model.isDefault && isReady(model)) ?? state.models.find(isReady);
  if (!initial) throw new service.ServiceError(0, "No model is ready yet. Reload the page in a moment.");
  modelSelect.disabled = false;
  modelSelect.value = initial.id;
  useModel();
}

function useModel() {
  state.model = state.models.find(({ id }) => id === modelSelect.value);
  const { card } = state.model;
  const options = card.labels.map((label, index) => makeOption(index, label));
  other.replaceChildren(makeOption("", "…"), ...options);
  against.replaceChildren(makeOption("", "…"), ...options.map((option) => option.cloneNode(true)));
  elements.examples.replaceChildren(...listExamples(card, endDrawingThen(open)));
  elements.draw.hidden = !acceptsDrawings(card);
  if (elements.draw.hidden && state.drawing) setDrawing(false);
  if (state.picture) return open(state.picture);
}

async function open(picture) {
  state.picture = picture;
  currentCall.abort();
  currentCall = new AbortController();
  const { signal } = currentCall;
  elements.viewport.classList.add("busy");
  await attempt(async () => {
    const answer = await service.explainTop(picture, state.model, signal);
    if (!state.drawing) await showPicture(picture, answer.image);
    if (signal.aborted) return;
    state.answer = answer;
    state.maps = new Map(answer.explanations.map((explanation) => [`${explanation.target.index}`, explanation]));
    state.target = answer.predictions[0].index;
    state.against = null;
    showStage();
    await showTarget();
  });
  if (!signal.aborted) elements.viewport.classList.remove("busy");
}

/** The service draws pictures that the browser can't read (TIFF …) or would rotate differently. */
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
  stage.classList.toggle("tiny", Math.max(width, height) < HEAT_SIDES[0] / 2);
  stage.hidden = false;
  image.hidden = state.drawing;
  image.alt = state.picture.name;
  elements.pad.hidden = !state.drawing;
  elements.invitation.hidden = true;
  const factor = Math.min(Math.max(Math.max(width, height), HEAT_SIDES[0]), HEAT_SIDES[1]) / Math.max(width, height);
  heat.width = Math.max(1, Math.round(width * factor));
  heat.height = Math.max(1, Math.round(height * factor));
  elements.crop.hidden = right - left > width - 1 && bottom - top > height - 1;
  placeOnPicture(elements.crop, [left, top, right, bottom], state.answer.image);
  elements.result.hidden = false;
  elements.hint.hidden = true;
  elements.curl.hidden = true;
  elements.timings.replaceChildren(...makeTimings(state.answer.timings));
  elements.warnings.replaceChildren(...state.answer.warnings.map(({ message }) => makeElement("p", message)));
}

/** Show the map of the state's target; ask the service for it if it is not here yet. */
async function showTarget() {
  const key = makeMapKey();
  const { maps } = state;
  if (!maps.has(key)) {
    maps.set(key, await service.explainOne(state.picture, state.model, state.target, state.against));
    if (maps !== state.maps || key !== makeMapKey()) return; // the person chose something else meanwhile
  }
  const explanation = maps.get(key);
  if (!state.answer.predictions.some(({ index }) => index === state.target)) {
    state.answer.predictions.push(explanation.target);
  }
  against.value = state.against ?? "";
  other.value = "";
  elements.verdict.textContent = "";
  listClasses();
  showMap(explanation);
}

const makeMapKey = () => (state.against === null ? `${state.target}` : `${state.target}-${state.against}`);

function showMap(explanation = state.maps.get(makeMapKey())) {
  if (!explanation) return; // the service has not answered yet
  const view = document.querySelector("[name=view]:checked").value;
  const { input } = state.model.card;
  const { width, height } = state.answer.image;
  const colours = colormaps[elements.colormap.value];
  const crop = findCrop(width, height, input).map((edge, i) => edge / (i % 2 ? height : width));
  paint(heat, makeMap(explanation.cam, input, view, explanation.empty), crop, view, colours);
  paintScale(elements.scale, view, colours);
  const isSigned = view === SIGNED;
  elements["scale-low"].textContent = isSigned ? "against" : "none";
  elements["scale-high"].textContent = isSigned ? "for" : "most";
  elements.colormap.disabled = isSigned;
  elements.box.hidden = !explanation.box || isSigned || !elements["show-box"].checked;
  if (explanation.box) placeOnPicture(elements.box, explanation.box, state.answer.image);
  elements.caption.textContent = describeMap(explanation, isSigned);
  elements.caption.classList.toggle("empty", explanation.empty);
  elements.origin.textContent = describeOrigin(explanation);
}

function listClasses() {
  const { activeElement } = document;
  const focused = elements.classes.contains(activeElement) ? activeElement.value : null;
  elements.classes.replaceChildren(
    ...state.answer.predictions.map((prediction) =>
      makeClass(prediction, prediction.index === state.target, (index) => selectMap({ target: index })),
    ),
  );
  if (focused !== null) elements.classes.querySelector(`[value="${focused}"]`)?.focus();
}

function selectMap(change) {
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
  elements.caption.textContent = "Draw a large digit in the middle.";
}

function clearResult() {
  state.answer = null;
  stage.hidden = elements.result.hidden = true;
  elements.hint.hidden = elements.invitation.hidden = false;
  elements.warnings.replaceChildren();
  elements.box.hidden = elements.crop.hidden = true;
  heat.width = heat.width; // setting the width clears a canvas
  elements.caption.textContent = elements.verdict.textContent = "";
}

/** Run an action and show the error if the service answers with one. */
async function attempt(action) {
  elements.error.hidden = elements["key-form"].hidden = true;
  try {
    await action();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof service.ServiceError)) throw error;
    elements.result.hidden = true;
    if (!state.drawing) clearResult();
    elements["key-form"].hidden = error.status !== 401;
    elements.error.textContent = error.message;
    elements.error.hidden = error.status === 401 && !service.hasKey();
    if (error.status === 401) elements.key.focus();
  }
}

function makeShownFields() {
  return {
    model: state.model.id,
    ...service.nameTarget(state.target, state.against),
    view: document.querySelector("[name=view]:checked").value,
    alpha: elements.opacity.value,
    colormap: elements.colormap.value,
  };
}

function endDrawingThen(action) {
  return (picture) => {
    if (state.drawing) setDrawing(false);
    return action(picture);
  };
}

modelSelect.addEventListener("change", useModel);
other.addEventListener("change", () => other.value && selectMap({ target: Number(other.value) }));
against.addEventListener("change", () => selectMap({ against: against.value === "" ? null : Number(against.value) }));
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
  const line = await makeCurl(state.picture, makeShownFields(), service.hasKey());
  elements.curl.textContent = line;
  elements.curl.hidden = false;
  await navigator.clipboard?.writeText(line).catch(() => getSelection().selectAllChildren(elements.curl));
});
elements.download.addEventListener("click", () =>
  attempt(async () => {
    const blob = await service.drawPicture(state.picture, makeShownFields());
    const link = Object.assign(makeElement("a"), { href: URL.createObjectURL(blob), download: "heatmap.png" });
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
