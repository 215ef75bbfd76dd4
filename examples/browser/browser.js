// Runs a Sightglass model file with onnxruntime-web: the file itself says how to read a picture and which labels there are.

import { findCrop, findShares, makeMap, paint, project } from "../../service/page/picture/map.js";
import { readCard } from "./card.js";
import * as ort from "./ort/ort.wasm.min.mjs";

const DEFAULT_MODEL = "../../models/lenet5/1/model.onnx";
const DEFAULT_PICTURE = "../../docs/examples/seven.png";
const STOPS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];
const SHOWN = 5;
const [modelInput, pictureInput, status, shown, classes] = ["model", "picture", "status", "shown", "classes"].map((id) => document.getElementById(id));
ort.env.wasm.numThreads = 1; // threads would need special headers
let model;

async function loadModel(bytes) {
  model = { card: readCard(bytes), session: await ort.InferenceSession.create(bytes) };
}

/** Run the model on a picture and show its classes and the heat for the first one. Returns the outputs. */
async function explain(blob) {
  const { card, session } = model;
  const bitmap = await createImageBitmap(blob);
  const feeds = { image: readPixels(bitmap, card.input), target: new ort.Tensor("int64", BigInt64Array.of(-1n), [1, 1]) };
  const { probabilities, cam } = await session.run(feeds);
  const order = [...probabilities.data.keys()].sort((a, b) => probabilities.data[b] - probabilities.data[a]);
  classes.replaceChildren(
    ...order.slice(0, SHOWN).map((index) => {
      const item = document.createElement("li");
      item.textContent = `${card.labels[index]}: ${(100 * probabilities.data[index]).toFixed(1)} %`;
      return item;
    }),
  );
  const [height, width] = cam.dims.slice(2);
  const rows = Array.from({ length: height }, (_, y) => [...cam.data.slice(y * width, (y + 1) * width)]);
  draw(bitmap, rows, card.input);
  status.textContent = `${card.title ?? card.architecture}: ${card.labels[order[0]]}`;
  return { probabilities: [...probabilities.data], cam: rows };
}

/** The part that the model sees, at its size: (1, H, W, C) uint8. */
function readPixels(bitmap, input) {
  const { width, height, mode } = input;
  const [left, top, right, bottom] = findCrop(bitmap.width, bitmap.height, input);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, left, top, right - left, bottom - top, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const channels = mode.length;
  const pixels = new Uint8Array(width * height * channels);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    const [r, g, b] = data.subarray(from, from + 3);
    if (channels === 1) pixels[to++] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16; // Pillow's gray
    else for (const value of [r, g, b]) pixels[to++] = value;
  }
  return new ort.Tensor("uint8", pixels, [1, height, width, channels]);
}

function draw(bitmap, cam, input) {
  const factor = 448 / Math.max(bitmap.width, bitmap.height);
  shown.width = Math.round(bitmap.width * factor);
  shown.height = Math.round(bitmap.height * factor);
  shown.hidden = false;
  const heat = Object.assign(document.createElement("canvas"), { width: shown.width, height: shown.height });
  const empty = cam.flat().every((value) => value <= 0);
  const map = makeMap(cam, input, "overlay", empty);
  paint(heat, project(map, findShares(bitmap, input), heat.width, heat.height), "overlay", makeColours());
  const context = shown.getContext("2d");
  context.drawImage(bitmap, 0, 0, shown.width, shown.height);
  context.globalAlpha = 0.6;
  context.drawImage(heat, 0, 0);
}

/** 256 RGBA quadruples between the stops. */
function makeColours() {
  const context = new OffscreenCanvas(256, 1).getContext("2d");
  const gradient = context.createLinearGradient(0, 0, 256, 0);
  STOPS.forEach((stop, i) => gradient.addColorStop(i / (STOPS.length - 1), stop));
  context.fillStyle = gradient;
  context.fillRect(0, 0, 256, 1);
  return context.getImageData(0, 0, 256, 1).data;
}

const say = (error) => (status.textContent = error.message);
let picture;

modelInput.addEventListener("change", async () => {
  await loadModel(new Uint8Array(await modelInput.files[0].arrayBuffer())).then(() => explain(picture)).catch(say);
});
pictureInput.addEventListener("change", () => {
  picture = pictureInput.files[0];
  explain(picture).catch(say);
});

async function start() {
  picture = await (await fetch(DEFAULT_PICTURE)).blob();
  await loadModel(new Uint8Array(await (await fetch(DEFAULT_MODEL)).arrayBuffer()));
  window.outputs = await explain(picture); // for a look in the console, and for the test
}
start().catch(say);
