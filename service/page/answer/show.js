// Draws the answer that is on the screen: picture, map, classes and sentences.

import { isMaskModel, paintMask } from "../masks/mask.js";
import { placeMark } from "../masks/region.js";
import { drawContours } from "../picture/contours.js";
import { SIGNED, findCrop, findShares, makeMap, paint, paintScale, project } from "../picture/map.js";
import { describePlace } from "../picture/place.js";
import { drawPicture } from "../service/models.js";
import { elements, getShownMap, getView, state } from "../state.js";
import { listClasses } from "./classes.js";
import { makePairs, placeOnPicture } from "./elements.js";
import { showWarnings } from "./warnings.js";
import { describeCertainty, describeConfidence, describeMap, describeOrigin, formatPercent } from "./words.js";

const HEAT_SIDES = [448, 1024]; // smallest and largest longer side of the drawn map
const { stage, picture: image, heat, lines } = elements;

/** Show the picture of `state.shown` and everything about its answer. */
export function showAnswer() {
  const { picture, model, answer } = state.shown;
  const { width, height } = answer.image;
  const crop = findCrop(width, height, model.card.input);
  placeStage(width, height);
  image.alt = picture.name;
  elements.crop.hidden = crop[2] - crop[0] > width - 1 && crop[3] - crop[1] > height - 1;
  elements["crop-note"].hidden = elements.crop.hidden;
  placeOnPicture(elements.crop, crop, answer.image);
  const factor = Math.min(Math.max(Math.max(width, height), HEAT_SIDES[0]), HEAT_SIDES[1]) / Math.max(width, height);
  for (const canvas of [heat, lines]) {
    canvas.width = Math.max(1, Math.round(width * factor));
    canvas.height = Math.max(1, Math.round(height * factor));
  }
  if (elements.result.hidden) elements.hint.open = false; // later it is as the person left it
  elements.result.hidden = false;
  const [top] = answer.predictions;
  elements["top-label"].textContent = top.label;
  elements["top-share"].textContent = isMaskModel(model)
    ? `covers ${formatPercent(top.share)} of the picture`
    : `${formatPercent(top.probability)} · ${describeConfidence(top.probability, answer.warnings)}`;
  elements.timings.replaceChildren(...makePairs(answer.timings.map(([name, ms]) => [name, `${ms.toFixed(1)} ms`])));
  showWarnings(answer, model);
}

/** Show a picture before its answer: as large as it is. */
export async function previewPicture(picture) {
  await load(picture.blob).catch(() => {});
  if (image.naturalWidth) placeStage(image.naturalWidth, image.naturalHeight);
}

/**
 * Show a picture with its answer, unless `signal` aborts.
 * The service draws pictures that the browser can't read (TIFF …) or would rotate differently.
 */
export async function loadPicture(picture, model, { width, height }, signal) {
  const show = async (blob) => {
    await load(blob);
    return image.naturalWidth === width && image.naturalHeight === height;
  };
  if (signal.aborted || (await show(picture.blob).catch(() => false)) || signal.aborted) return;
  const drawn = await drawPicture(picture, { model: model.id, alpha: 0, size: 0 }, "/gradcam", signal);
  if (!signal.aborted) await show(drawn);
}

/** Draw the map of the shown target with the chosen view and colours. */
export function showMap(colormaps) {
  const explanation = getShownMap();
  if (!explanation) return; // the service has not answered yet
  const { answer, model, verification, region } = state.shown;
  const view = getView();
  const isParts = view === "parts";
  stage.classList.toggle("asks", isMaskModel(model));
  stage.classList.toggle("parts", isParts);
  placeMark(elements.region, region && (region.box ?? [...region.point, ...region.point]));
  elements.whole.hidden = !region;
  elements.curl.hidden = true; // it is of what was shown before
  const tools = ["scale-row", "check", "show-box-tick", "show-lines-tick", "with-legend-tick", "colours"];
  for (const name of tools) elements[name].hidden = isParts;
  if (isParts) return showParts(answer, model);
  const isSigned = view === SIGNED;
  elements["show-box-tick"].hidden = isSigned;
  const colours = colormaps[elements.colormap.value];
  const { input } = model.card;
  const projectOn = (view) =>
    project(makeMap(explanation.cam, input, view, explanation.empty), findShares(answer.image, input), heat.width, heat.height);
  const projected = projectOn(view);
  paint(heat, projected, view, colours);
  lines.hidden = !elements["show-lines"].checked || explanation.empty;
  if (!lines.hidden) drawContours(lines, projected);
  paintScale(elements.scale, view, colours);
  stage.classList.toggle("signed", isSigned);
  elements["scale-low"].textContent = isSigned ? "against" : "cool: ignored";
  elements["scale-high"].textContent = isSigned ? "for" : "warm: counted";
  elements.colormap.disabled = isSigned;
  elements.box.hidden = !explanation.box || isSigned || !elements["show-box"].checked;
  if (explanation.box) placeOnPicture(elements.box, explanation.box, answer.image);
  elements.caption.textContent = describeMap(explanation, isSigned);
  elements.caption.classList.toggle("empty", explanation.empty);
  const place = explanation.empty ? "" : describePlace(isSigned ? projectOn("overlay") : projected);
  elements.place.textContent = `${describeCertainty(explanation)} ${place}`.trim();
  elements.origin.textContent = describeOrigin(explanation);
  elements.verdict.textContent = verification ?? "";
}

function showParts(answer, { card }) {
  paintMask(heat, answer, card);
  stage.classList.remove("signed");
  lines.hidden = elements.box.hidden = true;
  elements.caption.textContent = "Each colour is a class. Click a point or drag a box: why is this part what it is?";
  elements.caption.classList.remove("empty");
  elements.place.textContent = elements.verdict.textContent = "";
}

/** Show the classes and the map of the shown target. */
export function showTarget(select, colormaps) {
  const explanation = getShownMap();
  const { answer, target } = state.shown;
  if (!answer.predictions.some(({ index }) => index === target)) {
    answer.predictions.push(isMaskModel(state.shown.model) ? { ...explanation.target, probability: 0, share: 0 } : explanation.target);
  }
  listClasses(select, () => showMap(colormaps));
  showMap(colormaps);
}

/** Show nothing but the invitation. */
export function clearAnswer() {
  state.shown = null;
  placeMark(elements.region, null);
  stage.hidden = elements.result.hidden = elements.box.hidden = elements.crop.hidden = lines.hidden = true;
  elements.hint.open = true;
  elements.welcome.hidden = false;
  elements["crop-note"].hidden = true;
  elements.warnings.replaceChildren();
  heat.width = heat.width; // setting the width clears a canvas
  elements.caption.textContent = elements.verdict.textContent = elements.place.textContent = "";
}

function placeStage(width, height) {
  const most = Math.max(width, height);
  stage.style.setProperty("--shape", width / height);
  stage.classList.toggle("tiny", most < HEAT_SIDES[0] / 2);
  stage.hidden = false;
  image.hidden = state.drawing;
  elements.pad.hidden = !state.drawing;
  elements.welcome.hidden = true;
}

async function load(blob) {
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  await image.decode();
}
