// Calls the service. Knows nothing about the document.

const KEY_NAME = "sightglass-key";
const MAX_CLASSES = 8;

/** An error that the service answered with; the message is its own sentence. */
export class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const useKey = (key) => sessionStorage.setItem(KEY_NAME, key);
export const hasKey = () => sessionStorage.getItem(KEY_NAME) !== null;

/** All versions of all models: `{id, name, version, state, reason, card, isDefault}`. */
export async function fetchModels() {
  const { models } = await (await call("/models")).json();
  return models.flatMap(({ name, default: isDefault, versions }) =>
    versions
      .map((version) => ({ ...version, name, id: `${name}/${version.version}`, isDefault }))
      .sort((a, b) => b.version - a.version),
  );
}

/** The most probable classes of a picture, each with its map, and the time of each stage. */
export async function explainTop(picture, model, signal) {
  const top = Math.min(MAX_CLASSES, model.card.labels.length);
  const fields = { model: model.id, top_k: top, target_top: top };
  const response = await send(picture, fields, "application/json", signal);
  return { ...(await response.json()), timings: readTimings(response) };
}

/** The map of one class, or of one class rather than another. With `verify` the service checks it. */
export async function explainOne(picture, model, target, against, verify = false) {
  const fields = { model: model.id, top_k: 1, verify, ...nameTarget(target, against) };
  const answer = await (await send(picture, fields, "application/json")).json();
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

async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY_NAME);
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "The service does not answer. Check that it is running, then try again.");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new ServiceError(response.status, answer?.error?.message ?? `The service answered with status ${response.status}.`);
}

/** `[[stage, milliseconds], …]` from the Server-Timing header. */
function readTimings(response) {
  const header = response.headers.get("server-timing") ?? "";
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, stage, ms]) => [stage, Number(ms)]);
}
