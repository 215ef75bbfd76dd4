// The answers of this visit, kept in this tab only. A click shows one again without a request.

import { makeElement } from "../answer/elements.js";
import { formatPercent } from "../answer/words.js";
import { elements } from "../state.js";

const MOST = 12;
const SIDE = 96; // pixels of a thumbnail
const visits = [];

/** Keep an answer with a thumbnail of the picture on the screen. `open` shows it again. */
export function remember(shown, open) {
  const button = Object.assign(makeElement("button"), { type: "button" });
  const [top] = shown.answer.predictions;
  button.title = `${shown.picture.name}: ${top.label}, ${formatPercent(top.probability)} (${shown.model.id})`;
  button.append(makeThumbnail(), makeElement("span", top.label));
  button.addEventListener("click", () => open(shown));
  visits.unshift(button);
  visits.length = Math.min(visits.length, MOST);
  elements["history-list"].replaceChildren(...visits);
  elements.history.hidden = visits.length < 2;
}

/** Draw the picture and its heat small. */
function makeThumbnail() {
  const canvas = Object.assign(makeElement("canvas"), { width: SIDE, height: SIDE });
  const context = canvas.getContext("2d");
  for (const [source, opacity] of [[elements.picture, 1], [elements.heat, Number(elements.opacity.value)]]) {
    const [width, height] = [source.naturalWidth ?? source.width, source.naturalHeight ?? source.height];
    if (!width || !height) continue;
    const side = Math.min(width, height);
    context.globalAlpha = opacity;
    context.drawImage(source, (width - side) / 2, (height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  }
  return canvas;
}
