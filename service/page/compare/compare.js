// Two answers side by side on one picture: two models, two classes, or before and after an edit.

import { makeButton, makeElement, makeOption, openWorkbench } from "../answer/elements.js";
import { formatPercent, nameModel } from "../answer/words.js";
import { SIGNED, findPeak, findShares, makeMap, paint, project } from "../picture/map.js";
import { attempt } from "../service/attempt.js";
import { explainOne, explainTop } from "../service/models.js";
import { elements, getShownMap, getView, state } from "../state.js";
import { AS_IT_IS, EDITS, HOTTEST, MARKED, ONLY_MARKED, editPicture, encode, findNinth, listenForMarks } from "./edit.js";

const SIDE = 480; // pixels of the longer side of a map

/** Compare the answer on the screen with another one. */
export async function openComparison(colormaps) {
  const { shown } = state;
  const source = state.drawing ? elements.pad : elements.picture;
  const box = getShownMap().box;
  const { width, height } = shown.answer.image;
  const shared = {
    source,
    shown,
    mark: null,
    box: box && [box[0] / width, box[1] / height, box[2] / width, box[3] / height],
  };
  const sides = [0, 1].map((number) => makeSide(number, shown));
  const result = Object.assign(makeElement("p", "", "lead"), { role: "status" });
  const heading = makeElement("h2", "Compare");
  const note = makeElement("p", "Both maps have one scale if both sides have the same model. Drag on the left picture to mark a part.");
  const row = makeElement("div", "", "row");
  row.append(makeButton("Close", () => (elements.workbench.hidden = true)));
  const columns = makeElement("div", "", "sides");
  columns.append(...sides.map(({ element }) => element));
  await openWorkbench(elements.workbench, [heading, note, columns, result, row]);

  let latest = 0;
  const update = () => {
    const turn = ++latest;
    return attempt(async () => {
      const answers = [];
      for (const side of sides) answers.push(await ask(side, shared));
      if (turn !== latest) return;
      draw(sides, answers, colormaps);
      result.textContent = describe(answers);
    }, update);
  };
  for (const side of sides) for (const control of [side.model, side.target, side.edit]) {
    control.addEventListener("change", () => {
      if (control === side.model) offerClasses(side);
      update();
    });
  }
  listenForMarks(sides[0].stage, sides[0].mark, (region) => {
    shared.mark = region;
    if (![MARKED, ONLY_MARKED].includes(sides[1].edit.value)) sides[1].edit.value = MARKED;
    update();
  });
  sides[1].edit.value = shared.box ? HOTTEST : AS_IT_IS;
  update();
}

function makeSide(number, shown) {
  const side = {
    element: makeElement("section"),
    stage: makeElement("div", "", "stage"),
    ground: makeElement("canvas", "", "ground"),
    heat: makeElement("canvas"),
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
  side.stage.append(side.ground, side.heat, side.mark);
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

function draw(sides, answers, colormaps) {
  const view = getView() === SIGNED ? SIGNED : "overlay";
  const isSame = answers[0].model === answers[1].model;
  const peak = Math.max(...answers.map(({ explanation }) => findPeak(explanation.cam)));
  sides.forEach((side, i) => {
    const { model, explanation, canvas, edit } = answers[i];
    const factor = SIDE / Math.max(canvas.width, canvas.height);
    const [width, height] = [canvas.width, canvas.height].map((length) => Math.max(1, Math.round(length * factor)));
    for (const layer of [side.ground, side.heat]) Object.assign(layer, { width, height });
    side.stage.style.setProperty("--shape", width / height);
    side.stage.classList.toggle("signed", view === "signed");
    side.ground.getContext("2d").drawImage(canvas, 0, 0, width, height);
    const map = makeMap(explanation.cam, model.card.input, view, explanation.empty, isSame && peak > 0 ? peak : null);
    paint(side.heat, project(map, findShares(canvas, model.card.input), width, height), view, colormaps[elements.colormap.value]);
    side.heat.style.opacity = elements.opacity.value;
    side.heat.ariaLabel = `Heat for ${explanation.target.label}`;
    side.caption.textContent = `${explanation.target.label}: ${formatPercent(explanation.target.probability)}, ${edit}`;
  });
}

function describe([left, right]) {
  const [before, after] = [left, right].map(({ explanation }) => explanation.target);
  const [from, to] = [before, after].map(({ probability }) => formatPercent(probability));
  if (left.model !== right.model) return `Left: ${before.label}, ${from}. Right: ${after.label}, ${to}.`;
  if (before.label !== after.label) return `“${before.label}” has ${from}, “${after.label}” has ${to}.`;
  return from === to ? `“${before.label}” keeps ${from}.` : `“${before.label}” goes from ${from} to ${to}, ${right.edit}.`;
}
