// One call of the API: what it does, what it takes, and a form to try it.

import { makeButton, makeElement } from "../answer/elements.js";
import { showAnswer, showFailure } from "./answer.js";
import { chooseBody, makeField, readFields } from "./fields.js";
import { describeSchema } from "./schema.js";

/** A closed panel. Its form is made when it is opened first. */
export function makeOperation({ path, method, operation }, schemas) {
  const panel = makeElement("details", "", "call");
  panel.id = operation.operationId;
  const summary = makeElement("summary");
  summary.append(makeElement("b", method.toUpperCase(), `method ${method}`), makeElement("code", path), makeElement("span", operation.summary));
  panel.append(summary);
  panel.addEventListener("toggle", () => {
    if (panel.open && panel.childElementCount === 1) panel.append(makeForm(path, method, operation), makeReference(operation, schemas));
  });
  return panel;
}

function makeForm(path, method, operation) {
  const form = makeElement("form");
  const body = chooseBody(operation);
  const bodyNames = new Set(body?.fields.map(({ name }) => name));
  const parameters = (operation.parameters ?? []).filter(({ name, in: place }) => place !== "header" && !bodyNames.has(name));
  const fields = [...parameters, ...(body?.fields ?? [])].map((field) => makeField(field, operation.operationId));
  const types = Object.keys(operation.responses["200"].content ?? {}).filter((type) => !type.includes("*"));
  const accept = makeField({ name: "Accept", in: "header", schema: { enum: types }, description: "What comes back", required: true }, operation.operationId);
  if (types.length > 1) fields.push(accept);
  const answer = makeElement("div", "", "answer");
  answer.ariaLive = "polite";
  const send = makeButton("Try it", () => {}, "primary");
  send.type = "submit";
  form.append(...fields.map(({ element }) => element), send, answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    answer.replaceChildren(makeElement("p", "Waiting for the answer …"));
    const request = readFields(fields, path, method, body, types[0]);
    await showAnswer(answer, request).catch((error) => showFailure(answer, error));
    send.disabled = false;
  });
  return form;
}

function makeReference({ responses }, schemas) {
  const reference = makeElement("details", "", "reference");
  const heading = makeElement("summary", "Answers and errors");
  const list = makeElement("dl");
  for (const [status, { description, content = {} }] of Object.entries(responses)) {
    const [schema] = Object.values(content).map((shape) => shape.schema).filter((shape) => shape?.$ref);
    const meaning = makeElement("dd", description.replaceAll("`", ""));
    if (schema && status === "200") {
      const shape = makeElement("pre", describeSchema(schema, schemas));
      shape.tabIndex = 0;
      meaning.append(shape);
    }
    list.append(makeElement("dt", status), meaning);
  }
  reference.append(heading, list);
  return reference;
}
