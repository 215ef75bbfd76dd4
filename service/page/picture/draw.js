// A pad on which a person draws a digit, white on black, with mouse, pen or finger.

const PEN_WIDTH = 22; // of the pad's 280 pixels, about the stroke width of the training digits

/** Make `canvas` a pad that calls `onStroke` after each stroke. Return functions to clear and read it. */
export function makePad(canvas, onStroke) {
  const context = canvas.getContext("2d");
  let lastPoint = null;

  const findPoint = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [
      ((event.clientX - left) / width) * canvas.width,
      ((event.clientY - top) / height) * canvas.height,
    ];
  };
  const lineTo = (point) => {
    context.beginPath();
    context.moveTo(...lastPoint);
    context.lineTo(...point);
    context.stroke();
    lastPoint = point;
  };
  const clear = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    Object.assign(context, { strokeStyle: "#fff", lineWidth: PEN_WIDTH, lineCap: "round" });
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    lastPoint = findPoint(event);
    lineTo(lastPoint);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (lastPoint) event.getCoalescedEvents().concat(event).map(findPoint).forEach(lineTo);
  });
  const endStroke = () => {
    if (lastPoint) onStroke();
    lastPoint = null;
  };
  canvas.addEventListener("pointerup", endStroke);
  canvas.addEventListener("pointercancel", endStroke);
  clear();

  return { clear, read: () => new Promise((resolve) => canvas.toBlob(resolve)) };
}
