// Small parts of the page, made from what the service told. Each is a function of its arguments.

/** An element with text. */
export function make(tag, text = "", className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

/** One choice of a list. */
export function makeOption(value, text, disabled = false) {
  return Object.assign(make("option", text), { value, disabled });
}

/** One class with its probability, as a bar that can be pressed. */
export function makeClass({ index, label, probability }, isPressed, press) {
  const bar = make("span", "", "bar");
  bar.style.transform = `scaleX(${probability})`;
  const button = Object.assign(make("button"), { type: "button", value: index, title: label });
  button.append(make("span", label, "label"), make("span", percent(probability), "share"), bar);
  button.ariaPressed = String(isPressed);
  button.addEventListener("click", () => press(index));
  const item = make("li");
  item.append(button);
  return item;
}

/** How long each stage took. */
export const makeTimings = (timings) =>
  timings.map(([stage, ms]) => {
    const pair = make("div");
    pair.append(make("dt", stage), make("dd", `${ms.toFixed(1)} ms`));
    return pair;
  });

/** Lay `element` on a region of a picture. */
export function outline(element, [left, top, right, bottom], { width, height }) {
  element.style.left = `${(100 * left) / width}%`;
  element.style.top = `${(100 * top) / height}%`;
  element.style.width = `${(100 * (right - left)) / width}%`;
  element.style.height = `${(100 * (bottom - top)) / height}%`;
}

/** What a map shows, in a sentence. */
export function describeMap({ target, against, empty }, isSigned) {
  const what = `“${target.label}”${against ? ` rather than “${against.label}”` : ""}`;
  if (empty) return `Nothing here speaks for ${what}: the map is empty.`;
  return isSigned ? `What speaks for ${what}, and what against` : `What speaks for ${what}`;
}

/** A model in the list of models. */
export const describeModel = ({ name, version, state, reason }) =>
  `${name} / ${version}${state === "ready" ? "" : ` (${reason ?? state})`}`;

function percent(share) {
  const text = `${(100 * share).toFixed(1)} %`;
  if (text === "0.0 %") return "< 0.1 %";
  return text === "100.0 %" && share < 1 ? "> 99.9 %" : text;
}

/** What the model makes of the picture without the map's hottest, and without its coldest, part. */
export function describeCheck({ probability, hot_blurred: hot, cold_blurred: cold }) {
  if (hot === null) return "The map is empty: there is nothing to check.";
  const told = `${percent(probability)} as it is, ${percent(hot)} with the hottest fifth blurred, ${percent(cold)} with the coldest.`;
  const [lost, kept] = [probability - hot, probability - cold];
  const holds = lost > probability / 4 && lost > 2 * Math.max(kept, 0);
  return `${told} ${holds ? "The map holds." : "This proves little: the hottest part is hardly missed more than the coldest."}`;
}
