// Functions that makeElement small parts of the page from the answers of the service.

const METHODS = { gradcam: "Grad-CAM", hirescam: "HiResCAM" };

/** Make an element with text. */
export function makeElement(tag, text = "", className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

/** Make one option of a list. */
export function makeOption(value, text, disabled = false) {
  return Object.assign(makeElement("option", text), { value, disabled });
}

/** Make a button for one class, with its probability as a bar. */
export function makeClass({ index, label, probability }, isPressed, onPress) {
  const bar = makeElement("span", "", "bar");
  bar.style.transform = `scaleX(${probability})`;
  const button = Object.assign(makeElement("button"), { type: "button", value: index, title: label });
  button.append(makeElement("span", label, "label"), makeElement("span", formatPercent(probability), "share"), bar);
  button.ariaPressed = String(isPressed);
  button.addEventListener("click", () => onPress(index));
  const item = makeElement("li");
  item.append(button);
  return item;
}

/** Make the list of stages and their times. */
export const makeTimings = (timings) =>
  timings.map(([stage, ms]) => {
    const pair = makeElement("div");
    pair.append(makeElement("dt", stage), makeElement("dd", `${ms.toFixed(1)} ms`));
    return pair;
  });

/** Place `element` on a region of a picture. */
export function placeOnPicture(element, [left, top, right, bottom], { width, height }) {
  element.style.left = `${(100 * left) / width}%`;
  element.style.top = `${(100 * top) / height}%`;
  element.style.width = `${(100 * (right - left)) / width}%`;
  element.style.height = `${(100 * (bottom - top)) / height}%`;
}

/** Describe in one sentence what a map shows. */
export function describeMap({ target, against, empty }, isSigned) {
  const subject = `“${target.label}”${against ? ` rather than “${against.label}”` : ""}`;
  if (empty) return `There is no evidence for ${subject}, so the map is empty.`;
  return isSigned ? `Evidence for and against ${subject}` : `Evidence for ${subject}`;
}

/** Name the method of a map and the layer that it explains. */
export const describeOrigin = ({ method, layer }) => `${METHODS[method]} at layer ${layer}`;

/** Describe a model for the list of models. */
export const describeModel = ({ name, version, state, reason }) =>
  `${name} / ${version}${state === "ready" ? "" : ` (${reason ?? state})`}`;

function formatPercent(share) {
  const text = `${(100 * share).toFixed(1)} %`;
  if (text === "0.0 %") return "< 0.1 %";
  return text === "100.0 %" && share < 1 ? "> 99.9 %" : text;
}

/** Describe how blurring the map's hottest and coldest parts changes the probability. */
export function describeCheck({ probability, hot_blurred: hot, cold_blurred: cold }) {
  if (hot === null) return "The map is empty, so there is nothing to check.";
  const numbers =
    `The probability is ${formatPercent(probability)}. It is ${formatPercent(hot)} with the hottest fifth blurred` +
    ` and ${formatPercent(cold)} with the coldest fifth blurred.`;
  const [hotLoss, coldLoss] = [probability - hot, probability - cold];
  const isFaithful = hotLoss > probability / 4 && hotLoss > 2 * Math.max(coldLoss, 0);
  const verdict = isFaithful
    ? "The highlighted area counts."
    : "This proves little: blurring the hottest fifth changes little, or hardly more than blurring the coldest.";
  return `${numbers} ${verdict}`;
}
