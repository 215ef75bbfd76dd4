// The buttons that keep what is shown: a report, a picture, a curl command. What makes each is loaded with its first use.

import { save } from "../answer/elements.js";
import { nameRegion } from "../masks/region.js";
import { attempt } from "../service/attempt.js";
import { hasKey } from "../service/call.js";
import { drawPicture, nameTarget } from "../service/models.js";
import { elements, getView, state } from "../state.js";

const LEGEND_SIDE = 720; // pixels of a picture with a legend

/** Let the buttons work. */
export function listenForKeeping() {
  elements.copy.addEventListener("click", async () => {
    const { makeCurl } = await import("./curl.js");
    const line = await makeCurl(state.shown.picture, makeShownFields(), hasKey(), findDrawingPath());
    elements.curl.textContent = line;
    elements.curl.hidden = false;
    await navigator.clipboard?.writeText(line).catch(() => getSelection().selectAllChildren(elements.curl));
  });
  elements.download.addEventListener("click", () =>
    attempt(async () => {
      const withLegend = elements["with-legend"].checked;
      const fields = makeShownFields();
      const blob = await drawPicture(state.shown.picture, withLegend ? { ...fields, size: LEGEND_SIDE } : fields, findDrawingPath());
      if (!withLegend || getView() === "parts") return save(blob, "heatmap.png");
      const { addLegend } = await import("./legend.js");
      save(await addLegend(blob), "heatmap.png");
    }),
  );
  elements.report.addEventListener("click", () =>
    attempt(async () => {
      const { makeReport } = await import("./report.js");
      save(await makeReport(), "report.html");
    }),
  );
}

function makeShownFields() {
  const { model, target, against, region, answer } = state.shown;
  if (getView() === "parts") return { model: model.id, alpha: elements.opacity.value };
  return {
    model: model.id,
    ...nameTarget(target, against),
    ...nameRegion(region, answer.image),
    view: getView(),
    alpha: elements.opacity.value,
    colormap: elements.colormap.value,
  };
}

const findDrawingPath = () => (getView() === "parts" ? "/segment" : "/gradcam");
