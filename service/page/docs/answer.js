// Sends a request and shows what comes back: a picture, JSON or text.

import { makeElement } from "../answer/elements.js";
import { getKey } from "../service/call.js";

const SHOWN_HEADERS = /^(x-|server-timing|retry-after|content-type)/;
const MOST = 20_000; // characters of a text

/** Send the request and put its answer into `place`. */
export async function showAnswer(place, { url, options }) {
  const key = getKey();
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  const started = performance.now();
  const response = await fetch(url, { ...options, headers });
  const blob = await response.blob();
  const ms = Math.round(performance.now() - started);
  const type = response.headers.get("content-type") ?? "";
  const status = makeElement("p", `${response.status} ${response.statusText}, ${ms} ms`, response.ok ? "status" : "status fault");
  const facts = makeElement("dl", "", "headers");
  for (const [name, value] of response.headers) {
    if (SHOWN_HEADERS.test(name)) facts.append(makeElement("dt", name), makeElement("dd", value));
  }
  place.replaceChildren(status, await makeBody(type, blob), facts);
}

/** Say that there was no answer. */
export const showFailure = (place, error) =>
  place.replaceChildren(makeElement("p", error instanceof TypeError ? "The service does not answer." : error.message, "fault"));

async function makeBody(type, blob) {
  if (type.startsWith("image/") && !type.includes("svg")) {
    const image = Object.assign(makeElement("img"), { src: URL.createObjectURL(blob), alt: "The picture that the service drew" });
    image.addEventListener("load", () => URL.revokeObjectURL(image.src));
    return image;
  }
  const text = await blob.text();
  const shown = makeElement("pre", shorten(type.includes("json") ? format(text) : text));
  shown.tabIndex = 0;
  return shown;
}

const shorten = (text) => (text.length > MOST ? `${text.slice(0, MOST)}\n… ${text.length - MOST} more characters` : text);

/** JSON on lines of its own, with each list of numbers on one. */
function format(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2).replaceAll(/\[\s+[\d.e+-]+(,\s+[\d.e+-]+)*\s+\]/g, (list) => list.replaceAll(/\s+/g, " "));
  } catch {
    return text;
  }
}
