// Lines around the heat at a quarter, a half and three quarters of the maximum. Readable on any picture.

const LEVELS = [0.25, 0.5, 0.75];
const CORE = [255, 255, 255, 235];
const EDGE = [0, 0, 0, 150];

/** Draw the lines of a projected map. */
export function drawContours(canvas, { width, height, values }) {
  const levels = Uint8Array.from(values, (value) => LEVELS.filter((level) => Math.abs(value) >= level).length);
  const image = new ImageData(width, height);
  const set = (x, y, colour) => {
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const offset = 4 * (y * width + x);
    if (image.data[offset + 3] !== CORE[3]) image.data.set(colour, offset);
  };
  for (let y = 0; y < height - 1; y++) {
    for (let x = 0; x < width - 1; x++) {
      const here = levels[y * width + x];
      if (here === levels[y * width + x + 1] && here === levels[(y + 1) * width + x]) continue;
      for (let dy = -1; dy <= 1; dy++) for (let dx = -1; dx <= 1; dx++) set(x + dx, y + dy, EDGE);
      set(x, y, CORE);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
