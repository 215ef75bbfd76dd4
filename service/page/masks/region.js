// Lets a person ask about a part of the picture: a click or Enter for a point, a drag for a box.

const DRAG_PIXELS = 6; // on the screen; less is a click
const STEP = 0.02; // of the picture's side, for an arrow key
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Call `ask` with `{point: [x, y]}` or `{box: [left, top, right, bottom]}`, as shares of the picture.
 * `mark` is placed on what is being chosen. `isAllowed` says whether there is a mask to ask about.
 */
export function listenForRegions(viewport, stage, mark, isAllowed, ask) {
  let start = null;
  let cursor = [0.5, 0.5];
  const isZoomed = () => viewport.classList.contains("zoomed");
  const find = ({ clientX, clientY }) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    return [clamp((clientX - left) / width), clamp((clientY - top) / height)];
  };
  const finish = (region) => {
    start = null;
    ask(region);
  };

  stage.addEventListener("pointerdown", (event) => {
    if (!isAllowed() || !event.isPrimary || event.button) return;
    event.preventDefault(); // or the browser drags the picture away
    start = { at: find(event), x: event.clientX, y: event.clientY };
  });
  stage.addEventListener("pointermove", (event) => {
    if (start && !isZoomed() && isDrag(start, event)) placeMark(mark, toBox(start.at, find(event)));
  });
  stage.addEventListener("pointerup", (event) => {
    if (!start) return;
    if (!isDrag(start, event)) return finish({ point: start.at });
    if (isZoomed()) start = null; // the person moved the picture
    else finish({ box: toBox(start.at, find(event)) });
  });
  stage.addEventListener("pointercancel", () => (start = null));
  viewport.addEventListener("keydown", (event) => {
    if (!isAllowed() || event.target !== viewport || isZoomed()) return;
    const move = KEYS[event.key];
    if (move) {
      const step = event.shiftKey ? 5 * STEP : STEP;
      cursor = cursor.map((share, axis) => clamp(share + step * move[axis]));
      placeMark(mark, [...cursor, ...cursor]);
    } else if (event.key === "Enter") finish({ point: cursor });
    else return;
    event.preventDefault();
  });
}

/** Place the mark on shares of the picture; a point is a box without a size. */
export function placeMark(mark, box) {
  mark.hidden = !box;
  if (!box) return;
  const [left, top, right, bottom] = box.map((share) => 100 * share);
  const isPoint = left === right && top === bottom;
  const size = isPoint ? { width: "", height: "" } : { width: `${right - left}%`, height: `${bottom - top}%` };
  Object.assign(mark.style, { left: `${left}%`, top: `${top}%`, ...size });
  mark.classList.toggle("point", isPoint);
}

/** The form fields of a region, in pixels of the picture. */
export function nameRegion(region, size) {
  if (!region) return {};
  const { width, height } = size;
  const scale = (shares) => shares.map((share, i) => share * (i % 2 ? height : width));
  if (region.point) {
    const most = [width - 1, height - 1];
    return { point: scale(region.point).map((value, i) => Math.min(Math.floor(value), most[i])).join() };
  }
  const [left, top, right, bottom] = scale(region.box);
  return { box: [Math.floor(left), Math.floor(top), Math.ceil(right), Math.ceil(bottom)].join() };
}

const clamp = (share) => Math.min(Math.max(share, 0), 1);
const isDrag = (start, { clientX, clientY }) => Math.hypot(clientX - start.x, clientY - start.y) >= DRAG_PIXELS;
const toBox = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
