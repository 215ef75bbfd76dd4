// The classes of an answer: bars to click, and two fields to choose any other class.

import { isMaskModel, makeSwatch } from "../masks/mask.js";
import { elements, state } from "../state.js";
import { makeElement, makeOption } from "./elements.js";
import { formatPercent } from "./words.js";

const MAX_IN_MENU = 20; // more classes are searched by typing

/** Offer the labels of a model: in menus if they are few, else in fields to type in. */
export function offerLabels(labels) {
  const isLong = labels.length > MAX_IN_MENU;
  const options = labels.map((label, index) => makeOption(index, label));
  for (const name of ["other", "against"]) {
    elements[name].hidden = isLong;
    elements[`${name}-search`].hidden = !isLong;
    elements[`${name}-label`].htmlFor = isLong ? `${name}-search` : name;
    elements[name].replaceChildren(makeOption("", "…"), ...(isLong ? [] : options.map((option) => option.cloneNode(true))));
  }
  elements.labels.replaceChildren(...(isLong ? labels.map((label) => makeOption(label, "")) : []));
}

/** Call `select` with what a person chooses in the fields. */
export function listenForClasses(select) {
  const choose = (name, index) => {
    if (name === "against") select({ against: index });
    else if (index !== null) select({ target: index });
  };
  for (const name of ["other", "against"]) {
    const [menu, search] = [elements[name], elements[`${name}-search`]];
    menu.addEventListener("change", () => choose(name, menu.value === "" ? null : Number(menu.value)));
    search.addEventListener("change", () => {
      const found = search.value.trim() ? findLabels(search.value) : [null];
      search.setCustomValidity(found.length === 1 ? "" : askForOne(found));
      if (search.reportValidity()) choose(name, found[0]);
    });
  }
}

function askForOne(found) {
  const { labels } = state.shown.model.card;
  if (!found.length) return "Choose a class from the list.";
  const names = found.slice(0, 5).map((index) => labels[index]);
  return `Which one: ${names.join(", ")}${found.length > names.length ? " …" : ""}?`;
}

/** Show the classes as buttons. The one whose map is shown is pressed. `redraw` is for masks, whose classes can be hidden. */
export function listClasses(select, redraw) {
  const { answer, target, against, model } = state.shown;
  const { activeElement } = document;
  const focused = elements.classes.contains(activeElement) ? activeElement.value : null;
  elements.classes.replaceChildren(
    ...answer.predictions.map((prediction) => {
      const item = makeClass(prediction, prediction.index === target, select);
      if (isMaskModel(model)) item.prepend(makeSwatch(prediction, redraw));
      return item;
    }),
  );
  if (focused !== null) elements.classes.querySelector(`[value="${focused}"]`)?.focus();
  elements.other.value = elements["other-search"].value = "";
  elements.against.value = against ?? "";
  elements["against-search"].value = against === null ? "" : model.card.labels[against];
}

/**
 * The indices of the labels that a text may mean, from the labels of the chosen model: the very label,
 * else those with the text as a whole word, else those that begin with it.
 */
function findLabels(text) {
  const wanted = text.trim().toLowerCase();
  const labels = state.shown.model.card.labels.map((label) => label.toLowerCase());
  const find = (isMeant) => labels.flatMap((label, index) => (isMeant(label) ? [index] : []));
  const ways = [(label) => label === wanted, (label) => label.split(/[^\p{L}\p{N}]+/u).includes(wanted), (label) => label.startsWith(wanted)];
  return ways.map(find).find((found) => found.length) ?? [];
}

function makeClass({ index, label, probability }, isPressed, select) {
  const bar = makeElement("span", "", "bar");
  bar.style.transform = `scaleX(${probability})`;
  const button = Object.assign(makeElement("button"), { type: "button", value: index, title: label });
  button.append(makeElement("span", label, "label"), makeElement("span", formatPercent(probability), "share"), bar);
  button.ariaPressed = String(isPressed);
  button.addEventListener("click", () => select({ target: index }));
  const item = makeElement("li");
  item.append(button);
  return item;
}
