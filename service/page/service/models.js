// The requests of the page: models, maps and drawn pictures. Knows nothing about the document.

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

/** The most probable classes of a picture, each of the first `top` with its map, and the time of each stage. */
export async function explainTop(picture, model, signal, top = MAX_CLASSES) {
  const count = Math.min(MAX_CLASSES, model.card.labels.length);
  const fields = { model: model.id, top_k: count, target_top: Math.min(top, count) };
  const response = await send(picture, fields, "application/json", signal);
  return { ...(await response.json()), timings: readTimings(response) };
}

/** The map of one class, or of one class rather than another. With `verify` the service checks it. */
export async function explainOne(picture, model, target, against, verify = false, signal = undefined) {
  const fields = { model: model.id, top_k: 1, verify, ...nameTarget(target, against) };
  const answer = await (await send(picture, fields, "application/json", signal)).json();
  return answer.explanations[0];
}

/** The picture drawn by the service. With `alpha` 0 it is the picture itself. */
export async function drawPicture(picture, fields) {
  return (await send(picture, fields, "image/png")).blob();
}

export const nameTarget = (target, against) => ({
  target_index: target,
  ...(against === null ? {} : { against_index: against }),
});

function send(picture, fields, accept, signal) {
  const body = new FormData();
  body.append("image", picture.blob, picture.name);
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  return call("/gradcam", { method: "POST", body, headers: { accept }, signal });
}

/** `[[stage, milliseconds], …]` from the Server-Timing header. */
function readTimings(response) {
  const header = response.headers.get("server-timing") ?? "";
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, stage, ms]) => [stage, Number(ms)]);
}
