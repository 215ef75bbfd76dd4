// From the graph's signed `cam` to pixels, as the service draws it. Pure arrays, but for `paint`.

export const SIGNED = "signed";
const EPS = 1e-7;
const FOR = [255, 140, 0];
const AGAINST = [40, 90, 255];

/** The map at the model's input size: 0..1 (ReLU, min–max, resize, min–max), signed -1..1. */
export function makeMap(cam, { height, width }, view, empty) {
  const small = { height: cam.length, width: cam[0].length, values: Float32Array.from(cam.flat()) };
  const peak = small.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (view === SIGNED) {
    return resize(change(small, (value) => (peak > 0 ? value / peak : 0)), height, width);
  }
  if (empty) return resize(change(small, () => 0), height, width);
  return scale(resize(scale(change(small, (value) => Math.max(value, 0))), height, width));
}

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

/** Fill `canvas` with the map laid on `crop` (in shares of the canvas); its heat is its opacity. */
export function paint(canvas, map, crop, view, colours) {
  const { width, height } = canvas;
  const image = new ImageData(width, height);
  const column = locate(width, crop[0], crop[2], map.width);
  const row = locate(height, crop[1], crop[3], map.height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const value = row[y] && column[x] ? sample(map, row[y], column[x]) : 0;
      const from = Math.round(Math.abs(value) * 255);
      const colour = view !== SIGNED ? colours.subarray(from * 4) : value > 0 ? FOR : AGAINST;
      image.data[at] = colour[0];
      image.data[at + 1] = colour[1];
      image.data[at + 2] = colour[2];
      image.data[at + 3] = from;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** What the colours mean, most to the right. */
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

/** The colours of heat by name: 256 RGBA quadruples each. */
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

const change = (map, act) => ({ ...map, values: map.values.map(act) });

function scale(map) {
  const low = map.values.reduce((least, value) => Math.min(least, value), Infinity);
  const high = map.values.reduce((most, value) => Math.max(most, value), -Infinity);
  return change(map, (value) => (value - low) / (EPS + high - low));
}

function resize(map, height, width) {
  const columns = locate(width, 0, 1, map.width);
  const rows = locate(height, 0, 1, map.height);
  const values = new Float32Array(height * width);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => (values[y * width + x] = sample(map, row, column)));
  });
  return { height, width, values };
}

/** For each of `count` pixels: the two neighbours among `size` on start..end and the way between. */
function locate(count, start, end, size) {
  return Array.from({ length: count }, (_, i) => {
    const at = (((i + 0.5) / count - start) / (end - start)) * size;
    if (at < 0 || at >= size) return null;
    const low = Math.floor(at - 0.5);
    return [Math.max(low, 0), Math.min(low + 1, size - 1), at - 0.5 - low];
  });
}

function sample({ values, width }, [top, bottom, down], [left, right, over]) {
  const upper = values[top * width + left] * (1 - over) + values[top * width + right] * over;
  const lower = values[bottom * width + left] * (1 - over) + values[bottom * width + right] * over;
  return upper * (1 - down) + lower * down;
}

function roundToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
