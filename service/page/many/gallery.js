// Many pictures: asks for one after another, and shows, sorts and filters the answers.

import { makeButton, makeElement, makeOption, openWorkbench, save } from "../answer/elements.js";
import { formatPercent } from "../answer/words.js";
import { findShares, makeMap, paint, project } from "../picture/map.js";
import { showError } from "../service/attempt.js";
import { explainTop } from "../service/models.js";
import { elements, state } from "../state.js";
import { makeCsv, makeGalleryReport } from "./tables.js";

const MOST = 1000;
const SIDE = 160; // pixels of a thumbnail
const AT_ONCE = 2; // requests; a busy service is asked again when it says so
const PICTURES = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|mpo)$/i;
const ORDERS = {
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  class: (a, b) => (a.top?.label ?? "~").localeCompare(b.top?.label ?? "~") || b.top?.probability - a.top?.probability,
  "least sure": (a, b) => (a.top?.probability ?? -1) - (b.top?.probability ?? -1),
};
let stop = new AbortController();

/** Explain all files with the chosen model and show them in a gallery. `open` shows one on the page. */
export async function openGallery(files, colormaps, open) {
  const found = files.filter(({ name, type }) => type.startsWith("image/") || PICTURES.test(name));
  if (!state.model) return showError("Wait until a model is ready, then drop the pictures again.");
  if (!found.length) return showError(`None of the ${files.length} files is a picture.`);
  if (found.length > MOST) return showError(`A gallery holds at most ${MOST} pictures, got ${found.length}. Drop fewer, or use: explain FOLDER --report out.html`);
  stop.abort();
  stop = new AbortController();
  const gallery = makeGallery(found, open);
  await openWorkbench(elements.workbench, gallery.parts);
  await gallery.run(colormaps, stop.signal);
}

function makeGallery(files, open) {
  const { model } = state;
  const items = files.map((file) => ({ blob: file, name: file.webkitRelativePath || file.name, isFile: true }));
  const list = makeElement("ul", "", "gallery");
  const status = Object.assign(makeElement("p"), { role: "status" });
  const meter = Object.assign(makeElement("progress"), { max: items.length, value: 0 });
  meter.ariaLabel = "Pictures explained";
  const order = makeMenu("Order", Object.keys(ORDERS));
  const filter = Object.assign(makeElement("input"), { type: "search", placeholder: "Class or name" });
  filter.ariaLabel = "Show only";
  const doubtful = Object.assign(makeElement("input"), { type: "checkbox" });
  const tick = makeElement("label", "", "tick");
  tick.append(doubtful, " only with warnings");
  const cancel = makeButton("Cancel", () => stop.abort());
  const close = makeButton("Close", () => {
    stop.abort();
    elements.workbench.hidden = true;
  });
  const named = () => ({ model, items: items.filter(({ isDone }) => isDone) });
  const downloads = [
    makeButton("Download CSV", () => save(makeCsv(named()), "pictures.csv")),
    makeButton("Download report", () => save(makeGalleryReport(named()), "pictures.html")),
  ];
  const row = makeElement("div", "", "row");
  row.append(order.label, filter, tick, ...downloads, cancel, close);
  const heading = makeElement("h2", `${items.length} pictures`);

  const arrange = () => {
    const text = filter.value.trim().toLowerCase();
    const isShown = (item) =>
      (!doubtful.checked || item.warnings?.length) &&
      (!text || `${item.name} ${item.top?.label ?? ""}`.toLowerCase().includes(text));
    list.replaceChildren(...items.filter((item) => item.isDone && isShown(item)).sort(ORDERS[order.menu.value]).map(({ card }) => card));
  };
  for (const control of [order.menu, filter, doubtful]) control.addEventListener("input", arrange);

  const run = async (colormaps, signal) => {
    let next = 0;
    const work = async () => {
      while (next < items.length && !signal.aborted) {
        const item = items[next++];
        await explain(item, model, colormaps, signal);
        if (signal.aborted) return;
        Object.assign(item, { isDone: true, card: makeCard(item, open) });
        meter.value++;
        status.textContent = `${meter.value} of ${items.length}`;
        arrange();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    cancel.hidden = meter.hidden = true;
    const failed = items.filter(({ error }) => error).length;
    const ends = [`${meter.value - failed} of ${items.length} pictures are explained.`];
    if (failed) ends.push(`${failed} could not be.`);
    if (signal.aborted) ends.push("Cancelled.");
    status.textContent = ends.join(" ");
  };
  return { run, parts: [heading, status, meter, row, list] };
}

async function explain(item, model, colormaps, signal) {
  try {
    const { predictions, warnings, explanations, image } = await explainTop(item, model, signal, 1);
    const [top] = predictions;
    Object.assign(item, { top, warnings, thumbnail: await drawThumbnail(item, model, image, explanations[0], colormaps) });
  } catch (error) {
    item.error = error.message;
  }
}

async function drawThumbnail(item, model, size, { cam, empty }, colormaps) {
  const factor = SIDE / Math.max(size.width, size.height);
  const [width, height] = [size.width, size.height].map((side) => Math.max(1, Math.round(side * factor)));
  const canvas = Object.assign(makeElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  const bitmap = await createImageBitmap(item.blob, { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" }).catch(() => null);
  if (bitmap) context.drawImage(bitmap, 0, 0);
  const heat = Object.assign(makeElement("canvas"), { width, height });
  const map = makeMap(cam, model.card.input, "overlay", empty);
  paint(heat, project(map, findShares(size, model.card.input), width, height), "overlay", colormaps[elements.colormap.value]);
  context.globalAlpha = Number(elements.opacity.value);
  context.drawImage(heat, 0, 0);
  return canvas.toDataURL("image/jpeg", 0.8);
}

function makeCard(item, open) {
  const card = makeElement("li");
  const button = makeButton("", () => {
    open({ blob: item.blob, name: item.name, isFile: true });
    elements.viewport.scrollIntoView({ block: "nearest" });
  });
  if (item.thumbnail) button.append(Object.assign(makeElement("img"), { src: item.thumbnail, alt: "" }));
  button.append(makeElement("strong", item.top?.label ?? "No answer"));
  button.append(makeElement("span", item.error ?? formatPercent(item.top.probability), item.error ? "fault" : ""));
  for (const { code } of item.warnings ?? []) button.append(makeElement("span", code === "unfamiliar" ? "unfamiliar" : "not sure", "doubt"));
  button.append(makeElement("small", item.name));
  card.append(button);
  return card;
}

function makeMenu(text, names) {
  const menu = makeElement("select");
  menu.append(...names.map((name) => makeOption(name, name)));
  const label = makeElement("label", `${text} `, "tick");
  label.append(menu);
  return { menu, label };
}
