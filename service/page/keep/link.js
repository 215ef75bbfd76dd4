// The address of the page names the model, the example and the settings, so that it can be shared.

import { elements, getView, state } from "../state.js";

const SETTINGS = ["colormap", "opacity"];
const TICKS = ["show-box", "show-lines"];

/** What the address asks for: `{model, example, target, against}`, as far as it does. Sets the controls. */
export function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  for (const name of SETTINGS) {
    const before = elements[name].value;
    if (link.has(name)) elements[name].value = link.get(name);
    if (elements[name].value === "") elements[name].value = before;
  }
  for (const name of TICKS) if (link.has(name)) elements[name].checked = link.get(name) === "1";
  const view = document.querySelector(`[name=view][value="${link.get("view") === "signed" ? "signed" : "overlay"}"]`);
  view.checked = true;
  const number = (name) => (/^\d{1,6}$/.test(link.get(name) ?? "") ? Number(link.get(name)) : null);
  return { model: link.get("model"), example: number("example"), target: number("target"), against: number("against") };
}

/** Put what is shown into the address. A person's own picture is not in it. */
export function writeLink() {
  const { shown } = state;
  const link = new URLSearchParams({ model: (shown?.model ?? state.model).id });
  if (shown?.picture.example) {
    link.set("example", shown.picture.example);
    link.set("target", shown.target);
    if (shown.against !== null) link.set("against", shown.against);
  }
  link.set("view", getView());
  for (const name of SETTINGS) link.set(name, elements[name].value);
  for (const name of TICKS) link.set(name, Number(elements[name].checked));
  history.replaceState(null, "", `#${link}`);
}
