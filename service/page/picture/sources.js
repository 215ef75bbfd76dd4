// The sources of pictures: dropped, pasted or chosen files, the camera, and the examples of a model's card.

import { makeElement } from "../answer/elements.js";

const SMALL_SIDE = 64; // a larger input needs more than strokes
const TYPES = { "/9j/": "image/jpeg", iVBO: "image/png", UklG: "image/webp" }; // by the first base64 letters

/** Whether a person can draw pictures for a model. */
export const acceptsDrawings = ({ input }) => input.mode === "L" && Math.max(input.width, input.height) <= SMALL_SIDE;

/** Call `open` with one picture, or `openMany` with several files, that a person drops, pastes or chooses. */
export function listenForPictures(open, openMany, inputs, viewport) {
  const take = (files) => {
    if (files.length > 1) openMany(files);
    else if (files[0]) open({ blob: files[0], name: files[0].name, isFile: true });
  };
  for (const input of inputs) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      if (input.webkitdirectory) openMany(files);
      else take(files);
    });
  }
  document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    viewport.classList.add("over");
  });
  document.addEventListener("dragleave", () => viewport.classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    viewport.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
    if (entries.some((entry) => entry?.isDirectory)) openMany((await Promise.all(entries.filter(Boolean).map(readEntry))).flat());
    else take([...event.dataTransfer.files]);
  });
}

/** The examples of a card as pictures. They are as untrusted as the model file, and shown as pictures only. */
export const listExamples = ({ examples = [] }) =>
  examples.map(({ image, title, label, credit }, i) => ({
    example: i + 1,
    name: title,
    label,
    credit,
    source: `data:${TYPES[image.slice(0, 4)] ?? "image/png"};base64,${image}`,
    blob: new Blob([Uint8Array.from(atob(image), (letter) => letter.charCodeAt(0))]),
  }));

/** A button for each example. */
export const makeExamples = (pictures, open) =>
  pictures.map((picture) => {
    const button = Object.assign(makeElement("button"), { type: "button", title: picture.credit ? `${picture.name} (${picture.credit})` : picture.name });
    const image = Object.assign(makeElement("img"), { src: picture.source, alt: "" });
    image.addEventListener("error", () => button.remove());
    button.append(image, makeElement("span", picture.name));
    button.addEventListener("click", () => open(picture));
    return button;
  });

/** All files of a dropped folder. A browser lists at most 100 entries at a time. */
async function readEntry(entry) {
  if (entry.isFile) return new Promise((resolve) => entry.file((file) => resolve([file]), () => resolve([])));
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!entries.length) return files;
    files.push(...(await Promise.all(entries.map(readEntry))).flat());
  }
}
