// The report of one answer: a page to print, file or send.

import { describeAccuracy, describeTraining } from "../answer/about.js";
import { nameModel, describeConfidence, describeMap, describeOrigin, formatPercent } from "../answer/words.js";
import { isMaskModel } from "../masks/mask.js";
import { elements, getShownMap, getView, state } from "../state.js";
import { addTable, makeDocument, makeFile } from "./document.js";
import { composePicture, listLayers } from "./legend.js";

const SIDE = 720;

/** The report of what is on the screen, as a file. */
export async function makeReport() {
  const { picture, model, answer, verification } = state.shown;
  const explanation = getShownMap();
  const [top] = answer.predictions;
  const isSigned = getView() === "signed";
  const isMask = isMaskModel(model);
  const isParts = getView() === "parts";
  const made = makeDocument(`${top.label}: ${picture.name}`);
  const { add, main } = made;
  add(main, "h1", top.label);
  const worth = isMask ? "of the picture" : describeConfidence(top.probability, answer.warnings);
  add(main, "p", `${formatPercent(top.probability)}, ${worth}`, { class: "lead" });
  for (const { message } of answer.warnings) add(main, "p", message, { class: "warning" });

  const [ground] = listLayers();
  const pictures = add(main, "div", "", { class: "pictures" });
  addFigure(made, pictures, composePicture([{ source: ground.source }], SIDE), `The picture: ${picture.name}`);
  const mapped = addFigure(made, pictures, composePicture(listLayers(), SIDE), isParts ? "Each colour is a class" : describeMap(explanation, isSigned));
  if (!isParts) {
    add(mapped, "img", "", { src: elements.scale.toDataURL(), class: "scale", alt: "" });
    add(mapped, "span", isSigned ? "blue: against, orange: for" : "cool: ignored, warm: counted");
  }
  if (elements.place.textContent) add(main, "p", elements.place.textContent);
  add(main, "h2", "Check");
  add(main, "p", verification ?? "Nobody pressed “Check this”.");

  add(main, "h2", "Classes");
  addTable(made, main, ["Class", isMask ? "Of the picture" : "Confidence"], answer.predictions.map(({ label, probability }) => [label, formatPercent(probability)]));
  add(main, "h2", "Model");
  addTable(made, main, ["What", "Which"], [
    ["Model", `${nameModel(model)} (${model.name})`],
    ["Version", model.version],
    ["File, sha256", model.sha256],
    ["Method", describeOrigin(explanation)],
    ["Summary", model.card.summary],
    ["How often right", describeAccuracy(model.card)],
    ["Learned from", describeTraining(model.card)],
    ["Picture", `${picture.name}, ${answer.image.width} × ${answer.image.height} pixels`],
    ["Date", new Date().toISOString().slice(0, 16).replace("T", " ") + " UTC"],
  ].filter(([, value]) => value));
  add(main, "footer", "The colours show what the model used, not that it was right to. A percentage is the model's own confidence. Made by Sightglass.");
  return makeFile(made.page);
}

function addFigure({ add }, parent, src, caption) {
  const figure = add(parent, "figure");
  add(figure, "img", "", { src, alt: caption });
  return add(figure, "figcaption", caption);
}
