// A gallery as a table: CSV for a spreadsheet, and one HTML page.

import { formatPercent, nameModel } from "../answer/words.js";
import { addTable, makeDocument, makeFile } from "../keep/document.js";

const COLUMNS = ["picture", "class", "confidence", "warnings", "error", "model", "sha256"];

/** The answers as CSV. A cell that a spreadsheet would run as a formula gets an apostrophe in front. */
export function makeCsv({ model, items }) {
  const rows = items.map(({ name, top, warnings = [], error = "" }) => [
    name,
    top?.label ?? "",
    top?.probability.toFixed(6) ?? "",
    warnings.map(({ code }) => code).join(" "),
    error,
    model.id,
    model.sha256,
  ]);
  const text = [COLUMNS, ...rows].map((row) => row.map(quote).join(",")).join("\r\n");
  return new Blob([`\ufeff${text}\r\n`], { type: "text/csv" });
}

/** The answers as one self-contained page. */
export function makeGalleryReport({ model, items }) {
  const made = makeDocument(`${items.length} pictures`);
  const { add, main } = made;
  const doubtful = items.filter(({ warnings }) => warnings?.length).length;
  add(main, "h1", `${items.length} pictures`);
  add(main, "p", `${nameModel(model)} (${model.id}). ${doubtful} with warnings.`, { class: "lead" });
  const rows = items.map(({ name, top, thumbnail, warnings = [], error }) => [
    thumbnail ? { src: thumbnail, alt: `Heat on ${name}` } : "",
    name,
    error ?? top.label,
    top ? formatPercent(top.probability) : "",
    warnings.map(({ message }) => message).join(" "),
  ]);
  addTable(made, main, ["Heat", "Picture", "Class", "Confidence", "Warnings"], rows);
  const date = new Date().toISOString().slice(0, 16).replace("T", " ");
  add(main, "footer", `Warm parts counted, cool parts were ignored. Model file ${model.sha256}. ${date} UTC. Made by Sightglass.`);
  return makeFile(made.page);
}

function quote(value) {
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
