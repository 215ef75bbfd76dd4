// Banners that say what an answer is worth.

import { elements } from "../state.js";
import { makeElement } from "./elements.js";

const HEADINGS = { low_confidence: "Not sure", unfamiliar: "Not its kind of picture" };

/** Show the warnings of an answer. */
export function showWarnings({ warnings }, { card }) {
  elements.warnings.replaceChildren(
    ...warnings.map(({ code, message }) => {
      const banner = makeElement("p");
      const isStrange = code === "unfamiliar" && card.title;
      const known = isStrange ? ` This model is for: ${card.title}. Do not trust its answer here.` : "";
      banner.append(makeElement("strong", HEADINGS[code] ?? "Warning"), ` ${message}${known}`);
      return banner;
    }),
  );
}
