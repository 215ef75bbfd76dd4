// Zooms and moves the picture: wheel, two fingers, buttons or keys.

const MOST = 8;
const KEYS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** Let `stage` be zoomed inside `viewport`. Returns a function that shows the whole picture again. */
export function listenForZoom(viewport, stage, buttons, isAllowed) {
  let [scale, x, y] = [1, 0, 0];
  const pointers = new Map();

  const draw = () => {
    const [mostX, mostY] = [stage.offsetWidth * (scale - 1), stage.offsetHeight * (scale - 1)].map((side) => side / 2);
    x = Math.min(Math.max(x, -mostX), mostX);
    y = Math.min(Math.max(y, -mostY), mostY);
    stage.style.transform = scale === 1 ? "" : `translate(${x}px, ${y}px) scale(${scale})`;
    viewport.classList.toggle("zoomed", scale > 1);
    buttons.reset.disabled = buttons.out.disabled = scale === 1;
    buttons.in.disabled = scale === MOST;
  };
  const zoom = (factor, clientX, clientY) => {
    const { left, top, width, height } = viewport.getBoundingClientRect();
    const [fromX, fromY] = clientX === undefined ? [0, 0] : [clientX - left - width / 2, clientY - top - height / 2];
    const next = Math.min(Math.max(scale * factor, 1), MOST);
    x = fromX - ((fromX - x) * next) / scale;
    y = fromY - ((fromY - y) * next) / scale;
    scale = next;
    draw();
  };
  const reset = () => {
    [scale, x, y] = [1, 0, 0];
    draw();
  };

  viewport.addEventListener("wheel", (event) => {
    if (!isAllowed() || !(event.ctrlKey || scale > 1)) return; // else the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
  }, { passive: false });
  viewport.addEventListener("pointerdown", (event) => {
    if (!isAllowed() || event.target.closest("button")) return;
    pointers.set(event.pointerId, event);
  });
  viewport.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const others = [...pointers.values()].filter(({ pointerId }) => pointerId !== event.pointerId);
    pointers.set(event.pointerId, event);
    if (others.length) {
      const distance = (pointer) => Math.hypot(pointer.clientX - others[0].clientX, pointer.clientY - others[0].clientY);
      zoom(distance(event) / Math.max(distance(before), 1), event.clientX, event.clientY);
    } else if (scale > 1) {
      x += event.clientX - before.clientX;
      y += event.clientY - before.clientY;
      draw();
    }
  });
  for (const kind of ["pointerup", "pointercancel", "pointerleave"]) {
    viewport.addEventListener(kind, ({ pointerId }) => pointers.delete(pointerId));
  }
  viewport.addEventListener("dblclick", (event) => {
    if (isAllowed()) scale > 1 ? reset() : zoom(2, event.clientX, event.clientY);
  });
  viewport.addEventListener("keydown", (event) => {
    if (!isAllowed() || event.target !== viewport) return;
    const move = KEYS[event.key];
    if (event.key === "+") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") reset();
    else if (move && scale > 1) {
      [x, y] = [x + 40 * move[0], y + 40 * move[1]];
      draw();
    } else return;
    event.preventDefault();
  });
  buttons.in.addEventListener("click", () => zoom(1.5));
  buttons.out.addEventListener("click", () => zoom(1 / 1.5));
  buttons.reset.addEventListener("click", reset);
  draw();
  return reset;
}
