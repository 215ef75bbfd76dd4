// The page: what each action of a person does. The parts are in the folders.

import { describeModel, listModels, listenForAbout } from "./answer/about.js";
import { listenForClasses, offerLabels } from "./answer/classes.js";
import { clearAnswer, loadPicture, previewPicture, showAnswer, showMap, showTarget } from "./answer/show.js";
import { describeCheck } from "./answer/words.js";
import { listenForKeeping } from "./keep/buttons.js";
import { remember } from "./keep/history.js";
import { readLink, writeLink } from "./keep/link.js";
import { isMaskModel, readMask } from "./masks/mask.js";
import { listenForRegions } from "./masks/region.js";
import { makePad } from "./picture/draw.js";
import { loadColormaps } from "./picture/map.js";
import { acceptsDrawings, listExamples, listenForPictures, makeExamples } from "./picture/sources.js";
import { listenForZoom } from "./picture/zoom.js";
import { attempt, showError } from "./service/attempt.js";
import { pause, useKey } from "./service/call.js";
import { explainOne, explainTop, fetchModels } from "./service/models.js";
import { elements, getView, nameMap, state } from "./state.js";

const LOADING_CHECK_MS = 1000;
const { file, folder, camera, viewport } = elements;
const isReady = ({ state }) => state === "ready";
let colormaps;
let currentCall = new AbortController();
let choice = null; // {shown, wanted}: the map asked for, until it is shown

document.body.classList.toggle("embedded", location.pathname === "/embed");
const pad = makePad(elements.pad, async () => open({ blob: await pad.read(), name: "drawing.png" }));
const resetZoom = listenForZoom(
  viewport,
  elements.stage,
  { in: elements["zoom-in"], out: elements["zoom-out"], reset: elements["zoom-reset"] },
  () => !elements.stage.hidden && !state.drawing,
);

async function start() {
  colormaps ??= await loadColormaps();
  const link = readLink();
  for (;;) {
    state.models = await fetchModels();
    const linked = state.models.find(({ id }) => id === link.model);
    if (state.models.some(isReady) && linked?.state !== "loading") break;
    showError(describeUnready(state.models));
    await pause(LOADING_CHECK_MS);
  }
  elements.error.hidden = true;
  listModels(state.models);
  const ready = state.models.filter(isReady);
  const initial = ready.find(({ id }) => id === link.model) ?? ready.find(({ isDefault }) => isDefault) ?? ready[0];
  elements.model.disabled = elements["about-open"].disabled = false;
  useModel(initial);
  followLoading().catch(() => {}); // the next request says what is wrong
  const example = listExamples(initial.card).find(({ example }) => example === link.example);
  if (state.pending || !example) return answer();
  await open(example);
  const count = initial.card.labels.length;
  const isClass = (index) => index !== null && index < count;
  if (state.shown && isClass(link.target)) await selectMap({ target: link.target, against: isClass(link.against) ? link.against : null });
}

/** Offer the other models as soon as each of them is loaded. */
async function followLoading() {
  while (state.models.some(({ state }) => state === "loading")) {
    await pause(LOADING_CHECK_MS);
    const models = await fetchModels();
    if (models.every(({ id, state: now }, i) => id === state.models[i]?.id && now === state.models[i].state)) continue;
    state.models = models;
    listModels(models);
    elements.model.value = state.model.id;
  }
}

function describeUnready(models) {
  if (!models.length) return "There is no model yet. This page goes on as soon as there is one.";
  if (models.some(({ state }) => state === "loading")) return "The model is being loaded. This page goes on as soon as it is ready.";
  return `No model can answer: ${models[0].reason}`;
}

function useModel(model) {
  state.model = model;
  elements.model.value = model.id;
  offerLabels(model.card.labels);
  const examples = listExamples(model.card);
  elements.examples.replaceChildren(...makeExamples(examples, endDrawingThen(open)));
  elements["welcome-examples"].replaceChildren(...makeExamples(examples.slice(0, 3), endDrawingThen(open)));
  elements["welcome-summary"].textContent = model.card.summary ?? "";
  elements["try-one"].hidden = !examples.length;
  elements["parts-view"].hidden = !isMaskModel(model);
  chooseView(isMaskModel(model) ? "parts" : getView() === "parts" ? "overlay" : getView());
  describeModel(model);
  elements.draw.hidden = !acceptsDrawings(model.card);
  if (elements.draw.hidden && state.drawing) setDrawing(false);
}

function chooseView(view) {
  document.querySelector(`[name=view][value="${view}"]`).checked = true;
}

function open(picture) {
  state.pending = picture;
  return answer();
}

/** Ask for the pending picture. Until the answer is here, the old one stays; without a model or key, the picture waits. */
async function answer() {
  const { pending: picture, model } = state;
  if (!picture) return;
  currentCall.abort();
  currentCall = new AbortController();
  const { signal } = currentCall;
  if (!model) {
    elements.caption.textContent = `“${picture.name}” is kept, and answered as soon as the model can.`;
    return previewPicture(picture);
  }
  await attempt(async () => {
    const found = await explainTop(picture, model, signal).catch((error) => {
      if (![0, 401, undefined].includes(error.status)) state.pending = null; // asking again would not help
      throw error;
    });
    if (!state.drawing) await loadPicture(picture, model, found.image, signal);
    if (found.mask) await readMask(found);
    if (signal.aborted) return;
    state.pending = null;
    const maps = new Map(found.explanations.map((explanation) => [`${explanation.target.index}`, explanation]));
    state.shown = { picture, model, answer: found, maps, target: found.predictions[0].index, against: null, region: null };
    showAll();
    remember(state.shown, showAgain);
  }, answer);
  if (state.shown && state.model !== state.shown.model && !state.pending && !elements.error.hidden) useModel(state.shown.model);
}

function showAll() {
  resetZoom();
  showAnswer();
  showTarget(selectMap, colormaps);
  writeLink();
}

async function showAgain(shown) {
  if (state.drawing) setDrawing(false);
  currentCall.abort();
  currentCall = new AbortController();
  const { signal } = currentCall;
  state.pending = null;
  await attempt(async () => {
    await loadPicture(shown.picture, shown.model, shown.answer.image, signal);
    if (signal.aborted) return;
    if (state.model !== shown.model) useModel(shown.model);
    state.shown = shown;
    showAll();
  });
}

/** Show another map of the answer; ask the service for it if it is not here yet. A change adds to a choice still being asked for. */
function selectMap(change) {
  const { shown } = state;
  const { target, against, region } = choice?.shown === shown ? choice.wanted : shown;
  const wanted = { target, against, region, ...change };
  if (wanted.against === wanted.target) wanted.against = null;
  const current = (choice = { shown, wanted });
  return attempt(async () => {
    try {
      if (!shown.maps.has(nameMap(wanted))) {
        const found = await explainOne(shown.picture, shown.model, { ...wanted, size: shown.answer.image });
        wanted.target = found.target.index; // of the region, if none was named
        shown.maps.set(nameMap(wanted), found);
      }
      if (state.shown !== shown || choice !== current) return; // the person chose something else meanwhile
      Object.assign(shown, wanted, { verification: null });
      showTarget(selectMap, colormaps);
      writeLink();
    } finally {
      if (choice === current) choice = null;
    }
  }, () => selectMap(wanted));
}

/** Ask why a part of a mask, or all of it, has its class. */
function askAbout(region) {
  if (getView() === "parts") chooseView("overlay");
  return selectMap({ target: region ? null : state.shown.answer.predictions[0].index, against: null, region });
}

function setDrawing(on) {
  currentCall.abort();
  state.drawing = on;
  state.pending = null;
  elements.draw.ariaPressed = String(on);
  elements.clear.hidden = !on;
  pad.clear();
  clearAnswer();
  resetZoom();
  if (!on) return;
  elements.error.hidden = true;
  elements.stage.style.setProperty("--shape", 1);
  elements.stage.hidden = elements.pad.hidden = false;
  elements.picture.hidden = elements.welcome.hidden = true;
  elements.caption.textContent = "Draw a large digit in the middle.";
}

function endDrawingThen(action) {
  return (picture) => {
    if (state.drawing) setDrawing(false);
    return action(picture);
  };
}

async function openMany(files) {
  const { openGallery } = await import("./many/gallery.js");
  openGallery(files, colormaps, endDrawingThen(open));
}

listenForPictures(endDrawingThen(open), openMany, [file, folder, camera], viewport);
listenForClasses(selectMap);
listenForRegions(viewport, elements.stage, elements.region, () => state.shown && !state.drawing && isMaskModel(state.shown.model), askAbout);
elements.whole.addEventListener("click", () => askAbout(null));
listenForAbout();
elements.model.addEventListener("change", () => {
  useModel(state.models.find(({ id }) => id === elements.model.value));
  if (!state.shown) writeLink();
  state.pending ??= state.shown?.picture ?? null;
  answer();
});
for (const control of [elements.colormap, elements["show-box"], elements["show-lines"], ...document.querySelectorAll("[name=view]")]) {
  control.addEventListener("change", () => {
    showMap(colormaps);
    writeLink();
  });
}
const showOpacity = () => {
  elements.heat.style.opacity = elements.opacity.value;
  elements["opacity-value"].textContent = `${Math.round(100 * elements.opacity.value)} %`;
};
elements.opacity.addEventListener("input", showOpacity);
elements.opacity.addEventListener("change", writeLink);
elements.draw.addEventListener("click", () => setDrawing(!state.drawing));
elements.clear.addEventListener("click", () => setDrawing(true));
elements.check.addEventListener("click", () =>
  attempt(async () => {
    const { shown } = state;
    const asked = nameMap(shown);
    const { verification } = await explainOne(shown.picture, shown.model, { ...shown, size: shown.answer.image }, true);
    if (state.shown !== shown || asked !== nameMap(shown)) return;
    elements.verdict.textContent = shown.verification = describeCheck(verification);
  }),
);
listenForKeeping();
elements.compare.addEventListener("click", () =>
  attempt(async () => {
    const { openComparison } = await import("./compare/compare.js");
    await openComparison(colormaps);
  }),
);
elements["key-form"].addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(elements.key.value);
  attempt(state.model ? answer : start, state.model ? answer : start);
});
showOpacity();
attempt(start);
