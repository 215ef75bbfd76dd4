// A pad to draw a digit on, white on black, with mouse, pen or finger.

const PEN = 22; // of the pad's 280 pixels: about the stroke of the digits it is meant for

/** Make `canvas` a pad; `onStroke` is called after each stroke. Returns how to clear and read it. */
export function makePad(canvas, onStroke) {
  const context = canvas.getContext("2d");
  let last = null;

  const place = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [
      ((event.clientX - left) / width) * canvas.width,
      ((event.clientY - top) / height) * canvas.height,
    ];
  };
  const lineTo = (point) => {
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...point);
    context.stroke();
    last = point;
  };
  const clear = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    Object.assign(context, { strokeStyle: "#fff", lineWidth: PEN, lineCap: "round" });
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    lineTo(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last) event.getCoalescedEvents().concat(event).map(place).forEach(lineTo);
  });
  const end = () => {
    if (last) onStroke();
    last = null;
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  clear();

  return { clear, read: () => new Promise((resolve) => canvas.toBlob(resolve)) };
}
