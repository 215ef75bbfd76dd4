// Where pictures come from: dropped, pasted, chosen, or one of the examples.

const PHOTOS = ["dog_and_cat.jpg", "parrot.jpg", "dragonfly.jpg"];
const DIGITS = ["seven.png", "seven_on_paper.png"];
const SMALL = 64; // models of less have no use for photographs

/** Whether digits can be drawn for a model. */
export const takesDrawings = ({ input }) => input.mode === "L" && longerSide(input) <= SMALL;

/** Call `open` with each picture that a person brings. */
export function listen(open, fileInput, viewport) {
  const take = (files) => {
    if (files[0]) open({ blob: files[0], name: files[0].name, isFile: true });
  };
  fileInput.addEventListener("change", () => {
    take([...fileInput.files]);
    fileInput.value = "";
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    viewport.classList.add("over");
  });
  document.addEventListener("dragleave", () => viewport.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    viewport.classList.remove("over");
    take(event.dataTransfer.files);
  });
}

/** The examples that suit a model, as buttons: the service's pictures, then its card's own. */
export function listExamples(card, open) {
  const own = card.golden.map(({ image, label }, i) =>
    makeButton(`data:image/png;base64,${image}`, `The model's own example: ${label}`, () =>
      open({ blob: decode(image), name: `example${i + 1}.png` }),
    ),
  );
  const names = takesDrawings(card) ? DIGITS : longerSide(card.input) > SMALL ? PHOTOS : [];
  const kept = names.map((name) =>
    makeButton(`/page/${name}`, name.replace(/\.\w+$/, "").replaceAll("_", " "), async () => {
      const path = `/page/${name}`;
      open({ blob: await (await fetch(path)).blob(), name, path });
    }),
  );
  return [...kept, ...own];
}

function makeButton(source, label, act) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = label;
  const image = document.createElement("img");
  image.src = source;
  image.alt = label;
  image.addEventListener("error", () => button.remove());
  button.append(image);
  button.addEventListener("click", act);
  return button;
}

const decode = (base64) => new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))]);

const longerSide = ({ width, height }) => Math.max(width, height);
