// Turns the graph's signed `cam` into pixels exactly as the service does.

export const SIGNED = "signed";
const EPS = 1e-7;
const FOR = [255, 140, 0];
const AGAINST = [40, 90, 255];

/** The map at the model's input size: 0..1 (ReLU, min–max, resize, min–max), or -1..1 if signed. With `commonPeak`, two maps have one scale. */
export function makeMap(cam, { height, width }, view, empty, commonPeak = null) {
  const small = { height: cam.length, width: cam[0].length, values: Float32Array.from(cam.flat()) };
  const peak = commonPeak ?? findPeak(cam);
  if (view === SIGNED) {
    return resize(mapValues(small, (value) => (peak > 0 ? value / peak : 0)), height, width);
  }
  if (empty) return resize(mapValues(small, () => 0), height, width);
  const evidence = mapValues(small, (value) => Math.max(value, 0));
  if (commonPeak !== null) return resize(mapValues(evidence, (value) => value / commonPeak), height, width);
  return scale(resize(scale(evidence), height, width));
}

/** The largest magnitude in a `cam`. */
export const findPeak = (cam) => cam.flat().reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** The part that the model sees, as shares of 0..1. */
export const findShares = ({ width, height }, input) =>
  findCrop(width, height, input).map((edge, i) => edge / (i % 2 ? height : width));

/** The part of a `width` × `height` picture that the model sees: `[left, top, right, bottom]`. */
export function findCrop(width, height, input) {
  if (input.resize === null) return [0, 0, width, height];
  const resized =
    width <= height
      ? [input.resize, Math.trunc((input.resize * height) / width)]
      : [Math.trunc((input.resize * width) / height), input.resize];
  const [x, y] = [width / resized[0], height / resized[1]];
  const left = roundToEven((resized[0] - input.width) / 2);
  const top = roundToEven((resized[1] - input.height) / 2);
  return [left * x, top * y, (left + input.width) * x, (top + input.height) * y];
}

/** The map on a whole picture of `width` × `height`: it lies on `crop`, given as shares of 0..1; elsewhere it is 0. */
export function project(map, crop, width, height) {
  const values = new Float32Array(width * height);
  const columns = findNeighbours(width, crop[0], crop[2], map.width);
  const rows = findNeighbours(height, crop[1], crop[3], map.height);
  for (let y = 0; y < height; y++) {
    if (!rows[y]) continue;
    for (let x = 0; x < width; x++) {
      if (columns[x]) values[y * width + x] = interpolate(map, rows[y], columns[x]);
    }
  }
  return { width, height, values };
}

/** Draw a projected map. Heat becomes opacity. */
export function paint(canvas, { width, height, values }, view, colours) {
  const image = new ImageData(width, height);
  for (let i = 0, offset = 0; i < values.length; i++, offset += 4) {
    const level = Math.round(Math.abs(values[i]) * 255);
    const colour = view !== SIGNED ? colours.subarray(level * 4) : values[i] > 0 ? FOR : AGAINST;
    image.data[offset] = colour[0];
    image.data[offset + 1] = colour[1];
    image.data[offset + 2] = colour[2];
    image.data[offset + 3] = level;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Draw the colour scale, with the strongest evidence on the right. */
export function paintScale(canvas, view, colours) {
  const image = new ImageData(256, 1);
  for (let x = 0; x < 256; x++) {
    const value = (x / 255) * 2 - 1;
    const [r, g, b] = view !== SIGNED ? colours.subarray(x * 4) : value > 0 ? FOR : AGAINST;
    const opacity = view === SIGNED ? Math.abs(value) * 255 : 255;
    image.data.set([r, g, b, opacity], x * 4);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The colormaps by name: 256 RGBA quadruples each. */
export async function loadColormaps() {
  const image = new Image();
  image.src = "/page/colormaps.png";
  await image.decode();
  const canvas = new OffscreenCanvas(256, 3);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const row = (y) => context.getImageData(0, y, 256, 1).data;
  return { viridis: row(0), turbo: row(1), gray: row(2) };
}

const mapValues = (map, transform) => ({ ...map, values: map.values.map(transform) });

function scale(map) {
  const low = map.values.reduce((least, value) => Math.min(least, value), Infinity);
  const high = map.values.reduce((most, value) => Math.max(most, value), -Infinity);
  return mapValues(map, (value) => (value - low) / (EPS + high - low));
}

function resize(map, height, width) {
  const columns = findNeighbours(width, 0, 1, map.width);
  const rows = findNeighbours(height, 0, 1, map.height);
  const values = new Float32Array(height * width);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => (values[y * width + x] = interpolate(map, row, column)));
  });
  return { height, width, values };
}

/** For each of `count` pixels: its two neighbours among the `size` cells on start..end, and the weight of the second. */
function findNeighbours(count, start, end, size) {
  return Array.from({ length: count }, (_, i) => {
    const position = (((i + 0.5) / count - start) / (end - start)) * size;
    if (position < 0 || position >= size) return null;
    const low = Math.floor(position - 0.5);
    return [Math.max(low, 0), Math.min(low + 1, size - 1), position - 0.5 - low];
  });
}

/** Indexed access only: this runs for every pixel, and taking arrays apart would take most of the time. */
function interpolate({ values, width }, row, column) {
  const top = row[0] * width;
  const bottom = row[1] * width;
  const right = column[2];
  const upper = values[top + column[0]] * (1 - right) + values[top + column[1]] * right;
  const lower = values[bottom + column[0]] * (1 - right) + values[bottom + column[1]] * right;
  return upper * (1 - row[2]) + lower * row[2];
}

function roundToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
