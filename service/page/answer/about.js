// What a model is for, how good it is and what its card doubts.

import { isMaskModel } from "../masks/mask.js";
import { elements, state } from "../state.js";
import { makeElement, makeOption, makePairs } from "./elements.js";
import { formatPercent, nameModel } from "./words.js";

/** List the models by their names for people. Of models with one title, the later ones get their version. */
export function listModels(models) {
  const titles = models.map(nameModel);
  elements.model.replaceChildren(
    ...models.map((model, i) => {
      const isFirst = titles.indexOf(titles[i]) === i;
      const text = isFirst || !model.card?.title ? titles[i] : `${titles[i]} (${model.id})`;
      return makeOption(model.id, text, model.state !== "ready");
    }),
  );
}

/** Fill the dialog about the chosen model. */
export function describeModel(model) {
  const { card, name, version, sha256, provider, engine } = model;
  const { confidence, labels } = card;
  elements["about-title"].textContent = nameModel(model);
  elements["about-summary"].textContent = card.summary ?? "";
  elements["about-facts"].replaceChildren(
    ...makePairs(
      [
        ["How often right", describeAccuracy(card)],
        ["Learned from", describeTraining(card)],
        ["Answers with", `${labels.length.toLocaleString("en")} classes: ${labels.slice(0, 10).join(", ")}${labels.length > 10 ? " …" : ""}`],
        ["Looks at", `${card.input.width} × ${card.input.height} pixels, ${card.input.mode === "L" ? "gray" : "colour"}`],
        ["Warns", isMaskModel(model) ? null : describeWarnings(confidence)],
        ["License", card.license],
        ["File", `${name}/${version}, ${card.architecture}, on ${provider} (${engine?.name}, ${engine?.precision}), sha256 ${sha256?.slice(0, 12)}…`],
      ].filter(([, value]) => value),
    ),
  );
  const doubts = listDoubts(card);
  elements["about-doubts"].replaceChildren(...doubts.map((doubt) => makeElement("li", doubt)));
}

/** How often a model was right, and on which pictures; null if that was not measured. */
export function describeAccuracy(card) {
  const { metrics } = card;
  const accuracy = metrics?.accuracy ?? metrics?.subset_accuracy ?? metrics?.pixel_accuracy;
  if (accuracy === undefined) return null;
  const pixels = isMaskModel({ card }) ? "the pixels of " : "";
  return `${formatPercent(accuracy)} of ${pixels}${metrics.pictures.toLocaleString("en")} pictures: ${metrics.measured_on}`;
}

/** The data or the weights that a model was made of. */
export const describeTraining = ({ training }) => training.data ?? training.origin;

function listDoubts(card) {
  const { checks, metrics, metrics_reason: reason, labels } = card;
  const count = labels.length.toLocaleString("en");
  const found = (checks?.faithfulness?.doubts ?? []).map((doubt) => `Its maps: ${doubt}.`);
  return [
    isMaskModel({ card })
      ? `It gives every pixel one of its ${count} classes, also when the picture shows none of them. It gives no warnings.`
      : `It always answers with one of its ${count} classes, also when the picture shows none of them.`,
    ...(metrics ? [] : [`How often it is right was not measured${reason ? `: ${reason}` : ""}.`]),
    ...found,
  ];
}

function describeWarnings(confidence) {
  if (!confidence) return "Never: its card has no thresholds.";
  const { threshold, unfamiliar } = confidence;
  const parts = [];
  if (typeof threshold === "number") parts.push(`when its confidence is below ${formatPercent(threshold)}`);
  if (Array.isArray(threshold)) parts.push("when no class reaches its own threshold");
  if (unfamiliar?.threshold != null) parts.push("for pictures unlike those it knows");
  return parts.length ? parts.join(", and ") : null;
}

/** Show the dialog. */
export function listenForAbout() {
  elements["about-open"].addEventListener("click", () => {
    if (!state.model) return;
    describeModel(state.model);
    elements.about.showModal();
  });
}
