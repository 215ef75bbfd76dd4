// Sentences about answers and maps. Knows nothing about the document.

const METHODS = {
  gradcam: "Grad-CAM",
  hirescam: "HiResCAM",
  "seg-gradcam": "Grad-CAM over the pixels asked for",
  "seg-hirescam": "HiResCAM over the pixels asked for",
};

/** A probability as a percentage. What is not quite nothing or all is not rounded to it. No line breaks in it. */
export function formatPercent(share) {
  const text = (100 * share).toFixed(1);
  const bound = text === "0.0" ? "<\u00a00.1" : text === "100.0" && share < 1 ? ">\u00a099.9" : text;
  return `${bound}\u00a0%`;
}

/** What the map shows, in one sentence. */
export function describeMap({ target, against, empty, region }, isSigned) {
  const where = region ? { 0: "", 1: " at this point" }[region.pixels] ?? ` in ${region.pixels.toLocaleString("en")} pixels` : "";
  const subject = `“${target.label}”${against ? ` rather than “${against.label}”` : ""}${where}`;
  if (empty) return `There is no evidence for ${subject}, so the map is empty.`;
  return isSigned ? `Evidence for and against ${subject}` : `Evidence for ${subject}`;
}

/** How sure the model is of a part of a mask, in one sentence; nothing if the part has no pixels. */
export const describeCertainty = ({ target, region }) =>
  region?.pixels ? `The model gives “${target.label}” ${formatPercent(target.probability)} there.` : "";

/** The method of a map and the layer that it explains. */
export const describeOrigin = ({ method, layer }) => `${METHODS[method]} at layer ${layer}`;

/** A model's name for people, and why it can't answer if it can't. */
export const nameModel = ({ name, version, card, state, reason }) =>
  `${card?.title ?? `${name} / ${version}`}${state === "ready" ? "" : ` (${reason ?? state})`}`;

/** How blurring the map's hottest and coldest fifth changes the probability, and what that proves. */
export function describeCheck({ probability, hot_blurred: hot, cold_blurred: cold }) {
  if (hot === null) return "The map is empty, so there is nothing to check.";
  const change = (after) => {
    if (Math.abs(after - probability) < Math.max(0.02, probability / 20)) return `hardly changes ${formatPercent(probability)}`;
    return `${after < probability ? "drops" : "raises"} ${formatPercent(probability)} to ${formatPercent(after)}`;
  };
  const [hotLoss, coldLoss] = [probability - hot, probability - cold];
  const counts = hotLoss > probability / 4 && hotLoss > 2 * Math.max(coldLoss, 0);
  return (
    `Blurring the hottest fifth of the picture ${change(hot)}${counts ? ": it counts." : ": the answer does not hang on it."}` +
    ` Blurring the coldest fifth ${change(cold)}.`
  );
}

/** Rather how sure the model is, in words. */
export function describeConfidence(probability, warnings) {
  const codes = warnings.map(({ code }) => code);
  if (codes.includes("low_confidence")) return "not sure";
  if (codes.length) return "do not trust it";
  return probability >= 0.95 ? "very sure" : probability >= 0.7 ? "quite sure" : "leaning this way";
}
