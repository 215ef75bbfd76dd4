// Makes small elements. All texts are set as text, so that no label or title can add markup.

/** Make an element with text. */
export function makeElement(tag, text = "", className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

/** Make one option of a list. */
export function makeOption(value, text, disabled = false) {
  return Object.assign(makeElement("option", text), { value, disabled });
}

/** Make a button with its action. */
export function makeButton(text, onClick, className = "") {
  const button = Object.assign(makeElement("button", text, className), { type: "button" });
  button.addEventListener("click", onClick);
  return button;
}

/** Make `dt` and `dd` pairs. */
export const makePairs = (pairs) =>
  pairs.map(([name, value]) => {
    const pair = makeElement("div");
    pair.append(makeElement("dt", name), makeElement("dd", value));
    return pair;
  });

/** Place `element` on a region of a picture. */
export function placeOnPicture(element, [left, top, right, bottom], { width, height }) {
  Object.assign(element.style, {
    left: `${(100 * left) / width}%`,
    top: `${(100 * top) / height}%`,
    width: `${(100 * (right - left)) / width}%`,
    height: `${(100 * (bottom - top)) / height}%`,
  });
}

/** Let the browser save a blob as a file. */
export function save(blob, name) {
  const link = Object.assign(makeElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Show the workbench below the page with these elements, and go there. Its style is loaded with its first use. */
export async function openWorkbench(workbench, elements) {
  if (!document.getElementById("workbench-style")) {
    const link = Object.assign(makeElement("link"), { id: "workbench-style", rel: "stylesheet", href: "/page/look/workbench.css" });
    document.head.append(link);
    await new Promise((resolve) => link.addEventListener("load", resolve, { once: true }));
  }
  const [heading] = elements;
  heading.tabIndex = -1;
  workbench.replaceChildren(...elements);
  workbench.hidden = false;
  heading.focus({ preventScroll: true });
  heading.scrollIntoView();
}
