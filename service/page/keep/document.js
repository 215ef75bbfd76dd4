// Makes self-contained pages to keep. Texts are set as text, so that no label or file name can add markup.

const STYLE = `
:root { color-scheme: light; }
body { max-width: 860px; margin: 32px auto; padding: 0 24px; background: #fff; color: #182022;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0 0 4px; font-size: 28px; overflow-wrap: anywhere; }
h2 { margin: 28px 0 8px; font-size: 16px; }
.lead { margin: 0 0 20px; color: #566164; font-size: 17px; }
.pictures { display: flex; gap: 16px; flex-wrap: wrap; }
figure { flex: 1 1 260px; max-width: 420px; margin: 0; }
img { display: block; max-width: 100%; border-radius: 6px; }
figcaption, footer { margin-top: 6px; color: #566164; font-size: 13px; }
footer { margin-top: 32px; padding-top: 12px; border-top: 1px solid #d5dad7; }
.warning { margin: 12px 0; padding: 10px 16px; border-left: 4px solid #8a5a00; background: #fbf0d9; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid #d5dad7; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
th { color: #566164; font-weight: 500; overflow-wrap: normal; }
td:first-child { min-width: 5em; }
td.figure { font-variant-numeric: tabular-nums; white-space: nowrap; }
td img { width: 96px; max-width: none; }
.scale { width: 200px; height: 8px; }
@media (max-width: 600px) {
  th, td { padding-right: 8px; }
  td img { width: 56px; }
}
@media print { body { margin: 0; max-width: none; } figure, tr { break-inside: avoid; } }
`;
const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/** A new document with a title, and a function to add elements to its body. */
export function makeDocument(title) {
  const page = document.implementation.createHTMLDocument(title);
  page.documentElement.lang = "en";
  const add = (parent, tag, text = "", attributes = {}) => {
    const element = page.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  };
  add(page.head, "meta", "", { charset: "utf-8" });
  add(page.head, "meta", "", { "http-equiv": "Content-Security-Policy", content: POLICY });
  add(page.head, "meta", "", { name: "viewport", content: "width=device-width, initial-scale=1" });
  const main = add(page.body, "main");
  return { page, main, add };
}

/** The document as a file. The style is added to the text, because this page's own policy would stop it. */
export const makeFile = (page) => {
  const html = page.documentElement.outerHTML.replace("</head>", () => `<style>${STYLE}</style></head>`);
  return new Blob([`<!DOCTYPE html>\n${html}\n`], { type: "text/html" });
};

/** Add a table: a row of headings, and rows whose cells are texts, numbers in words, or picture URLs. */
export function addTable({ add }, parent, headings, rows) {
  const table = add(parent, "table");
  const head = add(add(table, "thead"), "tr");
  for (const heading of headings) add(head, "th", heading, { scope: "col" });
  const body = add(table, "tbody");
  for (const row of rows) {
    const line = add(body, "tr");
    for (const cell of row) {
      if (cell?.src) add(add(line, "td"), "img", "", cell);
      else add(line, "td", cell ?? "", /^[<>]?\s?[\d.]+\s%$/.test(cell) ? { class: "figure" } : {});
    }
  }
}
