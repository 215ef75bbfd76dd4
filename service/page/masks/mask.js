// The mask of a model that gives each pixel a class: its colours on the picture, and the legend.

import { makeElement } from "../answer/elements.js";
import { state } from "../state.js";

export const isMaskModel = ({ card }) => card.task === "segmentation";

/** Keep the mask of an answer as a bitmap in the card's colours. */
export async function readMask(answer) {
  const bytes = Uint8Array.from(atob(answer.mask), (letter) => letter.charCodeAt(0));
  answer.mask = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  answer.hiddenClasses = new Set();
}

/** Draw the mask over the whole canvas. The background, hidden classes and what the model did not see stay clear. */
export function paintMask(canvas, { mask, hiddenClasses }, { labels, palette, background }) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, width, height);
  context.drawImage(mask, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  const shown = new Set(palette.filter((_, index) => index < labels.length && index !== background && !hiddenClasses.has(index)).map(readColour));
  for (let i = 0; i < image.data.length; i += 4) {
    const colour = (image.data[i] << 16) | (image.data[i + 1] << 8) | image.data[i + 2];
    image.data[i + 3] = image.data[i + 3] && shown.has(colour) ? 255 : 0;
  }
  context.putImageData(image, 0, 0);
}

/** A button in the colour of a class. It hides the class on the picture, or shows it again. */
export function makeSwatch({ index, label }, redraw) {
  const { answer, model } = state.shown;
  const { hiddenClasses } = answer;
  const isBackground = index === model.card.background;
  const swatch = Object.assign(makeElement("button", "", "swatch"), { type: "button", disabled: isBackground });
  swatch.style.setProperty("--colour", isBackground ? "transparent" : model.card.palette[index]);
  swatch.ariaLabel = isBackground ? `${label} has no colour` : `Show ${label} on the picture`;
  swatch.ariaPressed = String(!isBackground && !hiddenClasses.has(index));
  swatch.addEventListener("click", () => {
    if (!hiddenClasses.delete(index)) hiddenClasses.add(index);
    swatch.ariaPressed = String(!hiddenClasses.has(index));
    redraw();
  });
  return swatch;
}

const readColour = (text) => Number.parseInt(text.slice(1), 16);
