// What the page asks the service. Knows nothing of the document.

const KEY = "sightglass-key";
const MAX_CLASSES = 8;

/** A refusal: its message is the service's own sentence. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const useKey = (key) => sessionStorage.setItem(KEY, key);
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** All versions of all models: `{id, name, version, state, reason, card, isDefault}`. */
export async function fetchModels() {
  const { models } = await (await call("/models")).json();
  return models.flatMap(({ name, default: isDefault, versions }) =>
    versions
      .map((version) => ({ ...version, name, id: `${name}/${version.version}`, isDefault }))
      .sort((a, b) => b.version - a.version),
  );
}

/** The top classes of a picture with a map each, and how long that took. */
export async function explainTop(picture, model, signal) {
  const top = Math.min(MAX_CLASSES, model.card.labels.length);
  const fields = { model: model.id, top_k: top, target_top: top };
  const response = await send(picture, fields, "application/json", signal);
  return { ...(await response.json()), timings: readTimings(response) };
}

/** One class's map, or why it and not another one; with `verify` also whether it holds. */
export async function explainOne(picture, model, target, against, verify = false) {
  const fields = { model: model.id, top_k: 1, verify, ...nameTarget(target, against) };
  const answer = await (await send(picture, fields, "application/json")).json();
  return answer.explanations[0];
}

/** The picture as the service draws it; with `alpha` 0 the picture itself. */
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
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Refusal(0, "The service does not answer: is it running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new Refusal(response.status, told?.error?.message ?? `The service answered ${response.status}.`);
}

/** `[[stage, milliseconds], …]` from the Server-Timing header. */
function readTimings(response) {
  const header = response.headers.get("server-timing") ?? "";
  return [...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, stage, ms]) => [stage, Number(ms)]);
}
