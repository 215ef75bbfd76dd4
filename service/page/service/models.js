// The requests of the page: models, maps and drawn pictures. Knows nothing about the document.

import { isMaskModel } from "../masks/mask.js";
import { nameRegion } from "../masks/region.js";
import { call } from "./call.js";

const MAX_CLASSES = 8;

/** All versions of all models: `{id, name, version, state, reason, card, isDefault}`. */
export async function fetchModels() {
  const { models } = await (await call("/models")).json();
  return models.flatMap(({ name, default: isDefault, versions }) =>
    versions
      .map((version) => ({ ...version, name, id: `${name}/${version.version}`, isDefault }))
      .sort((a, b) => b.version - a.version),
  );
}

/**
 * The most probable classes of a picture, each of the first `top` with its map, and the time of each stage.
 * For a mask: its classes by their share of the picture, the mask, and the map of the largest class.
 */
export async function explainTop(picture, model, signal, top = MAX_CLASSES) {
  const isMask = isMaskModel(model);
  const count = Math.min(MAX_CLASSES, model.card.labels.length);
  const fields = isMask ? { top_k: 0, mask: true } : { top_k: count, target_top: Math.min(top, count) };
  const response = await send(picture, { model: model.id, ...fields }, "application/json", signal);
  const answer = { ...(await response.json()), timings: readTimings(response) };
  if (!isMask) return answer;
  const classes = answer.classes.map((found) => ({ ...found, probability: found.share }));
  const target = classes.find(({ index }) => index === answer.explanations[0].target.index);
  return { ...answer, predictions: [target, ...classes.filter((found) => found !== target)] };
}

/**
 * The map of one class, or of one class rather than another. With `verify` the service checks it.
 * Without a `target` it is that of the class in the `region`, which only masks have.
 */
export async function explainOne(picture, model, { target, against, region = null, size }, verify = false, signal = undefined) {
  const fields = { model: model.id, top_k: 1, verify, ...nameTarget(target, against), ...nameRegion(region, size) };
  const answer = await (await send(picture, fields, "application/json", signal)).json();
  return answer.explanations[0];
}

/** The picture drawn by the service. With `alpha` 0 it is the picture itself. */
export async function drawPicture(picture, fields, path = "/gradcam", signal = undefined) {
  return (await send(picture, fields, "image/png", signal, path)).blob();
}

export const nameTarget = (target, against) => ({
  ...(target === null ? {} : { target_index: target }),
  ...(against === null ? {} : { against_index: against }),
});

function send(picture, fields, accept, signal, path = "/gradcam") {
  const body = new FormData();
  body.append("image", picture.blob, picture.name);
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  return call(path, { method: "POST", body, headers: { accept }, signal });
}

/** `[[stage, milliseconds], …]` from the Server-Timing header. */
function readTimings(response) {
  const header = response.headers.get("server-timing") ?? "";
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, stage, ms]) => [stage, Number(ms)]);
}
