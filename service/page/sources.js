// The sources of pictures: a dropped, pasted or chosen file, or an example.

const PHOTOS = ["dog_and_cat.jpg", "parrot.jpg", "dragonfly.jpg"];
const DIGITS = ["seven.png", "seven_on_paper.png"];
const SMALL_SIDE = 64; // photographs are too detailed for models with a smaller input

/** Whether a person can draw digits for a model. */
export const acceptsDrawings = ({ input }) => input.mode === "L" && longerSide(input) <= SMALL_SIDE;

/** Call `open` with each picture that a person drops, pastes or chooses. */
export function listenForPictures(open, fileInput, viewport) {
  const openFirst = (files) => {
    if (files[0]) open({ blob: files[0], name: files[0].name, isFile: true });
  };
  fileInput.addEventListener("change", () => {
    openFirst([...fileInput.files]);
    fileInput.value = "";
  });
  document.addEventListener("paste", (event) => openFirst(event.clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    viewport.classList.add("over");
  });
  document.addEventListener("dragleave", () => viewport.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    viewport.classList.remove("over");
    openFirst(event.dataTransfer.files);
  });
}

/** Make buttons for the examples that suit a model: the service's pictures, then those in its card. */
export function listExamples(card, open) {
  const cardExamples = card.golden.map(({ image, label }, i) =>
    makeButton(`data:image/png;base64,${image}`, `Example from the model's card: ${label}`, () =>
      open({ blob: decodeBase64(image), name: `example${i + 1}.png` }),
    ),
  );
  const names = acceptsDrawings(card) ? DIGITS : longerSide(card.input) > SMALL_SIDE ? PHOTOS : [];
  const serviceExamples = names.map((name) =>
    makeButton(`/page/${name}`, name.replace(/\.\w+$/, "").replaceAll("_", " "), async () => {
      const path = `/page/${name}`;
      open({ blob: await (await fetch(path)).blob(), name, path });
    }),
  );
  return [...serviceExamples, ...cardExamples];
}

function makeButton(source, label, onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = label;
  const image = document.createElement("img");
  image.src = source;
  image.alt = label;
  image.addEventListener("error", () => button.remove());
  button.append(image);
  button.addEventListener("click", onClick);
  return button;
}

const decodeBase64 = (base64) => new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))]);

const longerSide = ({ width, height }) => Math.max(width, height);
