// Puts label, percentage and legend under a picture, for somebody who sees the picture alone.

import { formatPercent } from "../answer/words.js";
import { elements, getShownMap, getView, state } from "../state.js";

/** A PNG of the drawn picture with a strip below it. */
export async function addLegend(blob) {
  const picture = await createImageBitmap(blob);
  const width = Math.max(picture.width, 320);
  const line = Math.max(16, Math.round(width / 28));
  const strip = line * 5;
  const canvas = Object.assign(document.createElement("canvas"), { width, height: picture.height + strip });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, canvas.height);
  context.drawImage(picture, (width - picture.width) / 2, 0);
  const write = (text, x, y, size, align = "left", most = width - line) => {
    Object.assign(context, { fillStyle: "#182022", textAlign: align, font: `${size}px system-ui, sans-serif` });
    context.fillText(text, x, y, most);
  };
  const { target } = getShownMap();
  const top = picture.height + line * 1.4;
  write(`${target.label}, ${formatPercent(target.probability)}`, line / 2, top, line);
  const isSigned = getView() === "signed";
  const bar = top + line * 0.6;
  context.imageSmoothingEnabled = true;
  context.drawImage(elements.scale, line / 2, bar, width - line, line * 0.5);
  write(isSigned ? "against" : "cool: ignored", line / 2, bar + line * 1.3, line * 0.7);
  write(isSigned ? "for" : "warm: counted", width - line / 2, bar + line * 1.3, line * 0.7, "right");
  write(`${state.shown.model.id} · Sightglass`, line / 2, bar + line * 2.4, line * 0.6);
  return new Promise((resolve) => canvas.toBlob(resolve));
}

/** The picture on the screen with its heat and lines, at most `side` pixels wide or high, as a data URL. */
export function composePicture(layers, side) {
  const [first] = layers;
  const [width, height] = [first.source.naturalWidth || first.source.width, first.source.naturalHeight || first.source.height];
  const factor = Math.min(1, side / Math.max(width, height)) * (Math.max(width, height) < side / 2 ? side / 2 / Math.max(width, height) : 1);
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.max(1, Math.round(width * factor)),
    height: Math.max(1, Math.round(height * factor)),
  });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (const { source, opacity = 1, filter = "none" } of layers) {
    Object.assign(context, { globalAlpha: opacity, filter });
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
  }
  return canvas.toDataURL("image/jpeg", 0.88);
}

/** The layers on the screen, for `composePicture`. */
export function listLayers() {
  const isSigned = getView() === "signed";
  const ground = { source: state.drawing ? elements.pad : elements.picture, filter: isSigned ? "grayscale(1) brightness(1.15) contrast(0.8)" : "none" };
  const heat = { source: elements.heat, opacity: Number(elements.opacity.value) };
  return elements.lines.hidden ? [ground, heat] : [ground, heat, { source: elements.lines }];
}
