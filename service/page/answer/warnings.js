// Banners that say what an answer is worth.

import { isMaskModel } from "../masks/mask.js";
import { elements } from "../state.js";
import { makeElement } from "./elements.js";

const HEADINGS = { low_confidence: "Not sure", unfamiliar: "Not its kind of picture" };

/** Show the warnings of an answer. A mask has none, so what its model is for is said each time. */
export function showWarnings({ warnings }, { card }) {
  const subject = card.title ? `This model is for: ${card.title}. It` : "This model";
  const note = makeElement("p", `${subject} does not notice pictures of another kind.`, "note");
  elements.warnings.replaceChildren(
    ...(isMaskModel({ card }) ? [note] : []),
    ...warnings.map(({ code, message }) => {
      const banner = makeElement("p");
      const isStrange = code === "unfamiliar" && card.title;
      const known = isStrange ? ` This model is for: ${card.title}. Do not trust its answer here.` : "";
      banner.append(makeElement("strong", HEADINGS[code] ?? "Warning"), ` ${message}${known}`);
      return banner;
    }),
  );
}
