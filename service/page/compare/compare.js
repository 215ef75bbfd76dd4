// Two answers side by side on one picture: two models, two classes, or before and after an edit.

import { makeButton, makeElement, makeOption, openWorkbench } from "../answer/elements.js";
import { formatPercent, nameModel } from "../answer/words.js";
import { drawContours } from "../picture/contours.js";
import { SIGNED, findPeak, findShares, makeMap, paint, project } from "../picture/map.js";
import { attempt } from "../service/attempt.js";
import { explainOne, explainTop } from "../service/models.js";
import { elements, getShownMap, getView, state } from "../state.js";
import { AS_IT_IS, EDITS, HOTTEST, MARKED, ONLY_MARKED, editPicture, encode, findNinth, listenForMarks } from "./edit.js";

const SIDE = 480; // pixels of the longer side of a map

/** Compare the answer on the screen with another one. */
export async function openComparison(colormaps) {
  const { shown } = state;
  const { width, height } = shown.answer.image;
  const { box } = getShownMap();
  const shared = {
    source: state.drawing ? elements.pad : elements.picture,
    shown,
    mark: null,
    box: box && [box[0] / width, box[1] / height, box[2] / width, box[3] / height],
  };
  const sides = [0, 1].map((number) => makeSide(number, shown));
  sides[1].edit.value = shared.box ? HOTTEST : AS_IT_IS;
  const result = Object.assign(makeElement("p", "", "lead"), { role: "status" });
  const heading = makeElement("h2", "Compare");
  const scale = makeElement("p");
  const row = makeElement("div", "", "row");
  row.append(makeButton("Close", () => (elements.workbench.hidden = true)));
  const columns = makeElement("div", "", "sides");
  columns.append(...sides.map(({ element }) => element));
  await openWorkbench(elements.workbench, [heading, scale, columns, result, row]);

  let latest = 0;
  const update = () => {
    const turn = ++latest;
    return attempt(async () => {
      const answers = [];
      for (const side of sides) answers.push(await ask(side, shared));
      if (turn !== latest) return;
      scale.textContent = `${drawAll(sides, answers, colormaps)} Drag on the left picture to mark a part.`;
      result.textContent = describe(answers);
    }, update);
  };
  listenForChoices(sides, shared, update);
  update();
}

/** Call `update` when a person chooses a model, class, edit or part. The first edit goes if another difference is chosen. */
function listenForChoices(sides, shared, update) {
  const { edit } = sides[1];
  let isPreset = true;
  for (const side of sides) for (const control of [side.model, side.target, side.edit]) {
    control.addEventListener("change", () => {
      if (control === side.model) offerClasses(side);
      if (control === side.edit) isPreset = false;
      if (isPreset) edit.value = AS_IT_IS;
      update();
    });
  }
  listenForMarks(sides[0].stage, sides[0].mark, (region) => {
    isPreset = false;
    shared.mark = region;
    if (![MARKED, ONLY_MARKED].includes(edit.value)) edit.value = MARKED;
    update();
  });
}

function makeSide(number, shown) {
  const side = {
    element: makeElement("section"),
    stage: makeElement("div", "", "stage"),
    ground: makeElement("canvas", "", "ground"),
    heat: Object.assign(makeElement("canvas"), { role: "img" }),
    lines: makeElement("canvas"),
    mark: Object.assign(makeElement("div", "", "mark"), { hidden: true }),
    model: makeElement("select"),
    target: Object.assign(makeElement("input"), { type: "search" }),
    edit: makeElement("select"),
    caption: makeElement("p", "", "caption"),
    classes: makeElement("datalist"),
  };
  const name = number ? "Right" : "Left";
  side.element.ariaLabel = name;
  side.model.ariaLabel = `${name}: model`;
  side.target.ariaLabel = `${name}: class`;
  side.edit.ariaLabel = `${name}: picture`;
  side.model.append(...state.models.filter(({ state }) => state === "ready").map((model) => makeOption(model.id, `${nameModel(model)} (${model.id})`)));
  side.model.value = shown.model.id;
  side.edit.append(...EDITS.map((edit) => makeOption(edit, edit)));
  side.classes.id = `classes-${number}`;
  side.target.setAttribute("list", side.classes.id);
  offerClasses(side);
  side.target.value = shown.model.card.labels[shown.target];
  side.stage.append(side.ground, side.heat, side.lines, side.mark);
  const row = makeElement("div", "", "row");
  row.append(side.model, side.target, side.edit, side.classes);
  side.element.append(side.stage, side.caption, row);
  return side;
}

const findModel = (side) => state.models.find(({ id }) => id === side.model.value);

function offerClasses(side) {
  const { labels } = findModel(side).card;
  side.classes.replaceChildren(...labels.map((label) => makeOption(label, "")));
  side.target.placeholder = "most probable";
  if (!labels.includes(side.target.value)) side.target.value = "";
}

/** The answer of one side: `{model, explanation, image, canvas}`. */
async function ask(side, { source, shown, mark, box }) {
  const model = findModel(side);
  const edit = side.edit.value;
  const region = edit === HOTTEST ? box : findNinth(edit) ?? mark;
  const canvas = editPicture(source, edit, region);
  const isWhole = edit === AS_IT_IS || !region;
  const picture = isWhole ? shown.picture : { blob: await encode(canvas), name: "edited.png" };
  const index = model.card.labels.indexOf(side.target.value);
  if (index >= 0) {
    const explanation = await explainOne(picture, model, { target: index, against: null });
    return { model, edit: isWhole ? AS_IT_IS : edit, explanation, canvas };
  }
  const { explanations } = await explainTop(picture, model, undefined, 1);
  return { model, edit: isWhole ? AS_IT_IS : edit, explanation: explanations[0], canvas };
}

/**
 * Draw both sides on one scale, and say what it is.
 * The numbers of two models have no common unit, so there a colour stands for a share of the model's evidence.
 */
function drawAll(sides, answers, colormaps) {
  const view = getView() === SIGNED ? SIGNED : "overlay";
  const isSame = answers[0].model === answers[1].model;
  const drawn = answers.map(({ explanation: { cam } }) => (view === SIGNED ? cam : cam.map((row) => row.map((value) => Math.max(value, 0)))));
  const units = drawn.map((cam) => (isSame ? 1 : findMean(cam) || 1));
  const peaks = drawn.map((cam, i) => findPeak(cam) / units[i]);
  const peak = Math.max(...peaks);
  sides.forEach((side, i) => {
    const projectWith = draw(side, answers[i], view, peak > 0 ? peak * units[i] : null, colormaps);
    if (!isSame && peaks[i] > 0) drawContours(side.lines, projectWith(null)); // the paler map has to be seen, too
  });
  return describeScale(peaks, isSame);
}

const findMean = (cam) => cam.flat().reduce((sum, value) => sum + Math.abs(value), 0) / (cam.length * cam[0].length);

/** Draw one side. `peak` is the value of its map that gets the strongest colour. Returns a function that projects the map. */
function draw(side, { model, explanation, canvas, edit }, view, peak, colormaps) {
  const { cam, empty, target } = explanation;
  const factor = SIDE / Math.max(canvas.width, canvas.height);
  const [width, height] = [canvas.width, canvas.height].map((length) => Math.max(1, Math.round(length * factor)));
  for (const layer of [side.ground, side.heat, side.lines]) Object.assign(layer, { width, height });
  side.stage.style.setProperty("--shape", width / height);
  side.stage.classList.toggle("signed", view === SIGNED);
  side.ground.getContext("2d").drawImage(canvas, 0, 0, width, height);
  const projectWith = (most) => project(makeMap(cam, model.card.input, view, empty, most), findShares(canvas, model.card.input), width, height);
  paint(side.heat, projectWith(peak), view, colormaps[elements.colormap.value]);
  side.heat.style.opacity = elements.opacity.value;
  side.heat.ariaLabel = `Heat for ${target.label}`;
  side.caption.textContent = `${target.label}: ${formatPercent(target.probability)}, ${edit}`;
  return projectWith;
}

/** What the common scale is, and which map is paler on it. */
function describeScale([left, right], isSame) {
  const [paler, share] = left < right ? ["left", left / right] : ["right", right / left];
  const meaning = isSame
    ? "A colour means the same evidence on both sides."
    : "A colour means the same share of a model's evidence on both sides. Lines are at 25, 50 and 75 % of each map's own maximum.";
  if (!(share < 0.9)) return meaning; // both may be 0
  const reason = isSame ? "weaker" : "more spread out";
  return `${meaning} The ${paler} map is ${reason}: its maximum is ${formatPercent(share)} of the other one's.`;
}

function describe([left, right]) {
  const [before, after] = [left, right].map(({ explanation }) => explanation.target);
  const [from, to] = [before, after].map(({ probability }) => formatPercent(probability));
  if (left.model !== right.model) return `Left: ${before.label}, ${from}. Right: ${after.label}, ${to}.`;
  if (before.label !== after.label) return `“${before.label}” has ${from}, “${after.label}” has ${to}.`;
  return from === to ? `“${before.label}” keeps ${from}.` : `“${before.label}” goes from ${from} to ${to}, ${right.edit}.`;
}
