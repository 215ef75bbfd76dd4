// Changes a picture: blurs a region, or keeps only it. Regions are shares of 0..1: [left, top, right, bottom].

const ROWS = ["upper", "middle", "lower"];
const COLUMNS = ["left", "centre", "right"];
const JPEG_FROM = 1_000_000; // pixels; a larger PNG might be too large to upload
const BLUR = 1 / 8; // of the shorter side, as `verify` does it

export const AS_IT_IS = "as it is";
export const MARKED = "without what you mark";
export const ONLY_MARKED = "only what you mark";
export const HOTTEST = "without the box";

/** The names of all edits. The nine parts need no pointer. */
export const EDITS = [
  AS_IT_IS,
  HOTTEST,
  MARKED,
  ONLY_MARKED,
  ...ROWS.flatMap((row) => COLUMNS.map((column) => `without the ${row} ${column}`)),
];

/** The region of an edit that names one of nine parts, or null. */
export function findNinth(edit) {
  const [, , row, column] = edit.split(" ");
  const [y, x] = [ROWS.indexOf(row), COLUMNS.indexOf(column)];
  return x < 0 || y < 0 ? null : [x / 3, y / 3, (x + 1) / 3, (y + 1) / 3];
}

/** A canvas with the edited picture. */
export function editPicture(source, edit, region) {
  const [width, height] = [source.naturalWidth || source.width, source.naturalHeight || source.height];
  const [left, top, right, bottom] = region ? [region[0] * width, region[1] * height, region[2] * width, region[3] * height] : [0, 0, width, height];
  const isCrop = edit === ONLY_MARKED;
  const size = isCrop ? [right - left, bottom - top].map((side) => Math.max(1, Math.round(side))) : [width, height];
  const canvas = Object.assign(document.createElement("canvas"), { width: size[0], height: size[1] });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, ...size);
  context.drawImage(source, isCrop ? -left : 0, isCrop ? -top : 0, width, height);
  if (edit === AS_IT_IS || isCrop || !region) return canvas;
  const blurred = new OffscreenCanvas(width, height);
  const context2 = blurred.getContext("2d");
  context2.filter = `blur(${Math.min(width, height) * BLUR}px)`;
  context2.drawImage(source, 0, 0, width, height);
  context.drawImage(blurred, left, top, right - left, bottom - top, left, top, right - left, bottom - top);
  return canvas;
}

/** The edited picture as a file to send. */
export const encode = (canvas) =>
  new Promise((resolve) =>
    canvas.toBlob(resolve, canvas.width * canvas.height > JPEG_FROM ? "image/jpeg" : "image/png", 0.95),
  );

/** Call `done` with the region that a person marks on `surface`. */
export function listenForMarks(surface, mark, done) {
  let from = null;
  const find = (event) => {
    const { left, top, width, height } = surface.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height].map((share) => Math.min(Math.max(share, 0), 1));
  };
  const span = (to) => [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
  surface.addEventListener("pointerdown", (event) => {
    surface.setPointerCapture(event.pointerId);
    from = find(event);
  });
  surface.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [left, top, right, bottom] = span(find(event));
    mark.hidden = false;
    Object.assign(mark.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%` });
  });
  surface.addEventListener("pointerup", (event) => {
    const region = from && span(find(event));
    from = null;
    if (region && region[2] - region[0] > 0.02 && region[3] - region[1] > 0.02) done(region);
  });
}
