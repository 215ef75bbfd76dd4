// The fields of a call's form, and the request that they make.

import { makeElement, makeOption } from "../answer/elements.js";

const MULTIPART = "multipart/form-data";
const JSON_TYPE = "application/json";

/** How the body is entered: fields of a form, or JSON. Null: there is no body. */
export function chooseBody({ requestBody }) {
  const content = requestBody?.content;
  if (!content) return null;
  if (content[MULTIPART]) {
    const { properties, required = [] } = content[MULTIPART].schema;
    const fields = Object.entries(properties).map(([name, schema]) => ({
      name,
      in: "body",
      schema,
      description: schema.description,
      required: required.includes(name),
    }));
    return { type: MULTIPART, fields };
  }
  const example = content[JSON_TYPE]?.example ?? {};
  const field = { name: "JSON", in: "body", schema: { example }, required: true };
  return { type: JSON_TYPE, fields: [field] };
}

/** A labelled field: `{element, name, place, read}`. */
export function makeField({ name, in: place, schema, description = "", required = false }, group) {
  const element = makeElement("div", "", "field");
  const control = makeControl(name, schema, required);
  control.id = `${group}-${name}`;
  const label = Object.assign(makeElement("label", name), { htmlFor: control.id });
  if (required) label.append(makeElement("span", " required", "quiet"));
  const note = Object.assign(makeElement("p", description.replaceAll("`", "")), { id: `${control.id}-note`, className: "quiet" });
  element.append(label, control, note);
  if (description) control.setAttribute("aria-describedby", note.id);
  const read = () => (control.type === "file" ? [...control.files] : control.value === "" ? [] : [control.value]);
  return { element, name, place, read };
}

/** The request: `{url, options, curl}`. */
export function readFields(fields, path, method, body, accept) {
  const url = new URL(location.origin);
  const headers = { accept: accept ?? "*/*" };
  const form = new FormData();
  let text = null;
  let place = path;
  for (const { name, place: where, read } of fields) {
    for (const value of read()) {
      if (where === "path") place = place.replace(`{${name}}`, value.split("/").map(encodeURIComponent).join("/"));
      else if (where === "query") url.searchParams.append(name, value);
      else if (where === "header") headers.accept = value;
      else if (body.type === MULTIPART) form.append(name, value);
      else text = value;
    }
  }
  url.pathname = place;
  if (text !== null) headers["content-type"] = JSON_TYPE;
  const options = { method: method.toUpperCase(), headers, body: body ? (text ?? form) : undefined };
  return { url: url.href, options };
}

function makeControl(name, schema, required) {
  const kinds = [schema, ...(schema.anyOf ?? [])];
  const choices = kinds.find((kind) => kind.enum)?.enum ?? (kinds.some(({ type }) => type === "boolean") ? ["true", "false"] : null);
  const isFile = (kind) => kind?.format === "binary";
  if (isFile(schema) || isFile(schema.items)) {
    return Object.assign(makeElement("input"), { type: "file", accept: "image/*", required, multiple: schema.type === "array" });
  }
  if (schema.example) {
    return Object.assign(makeElement("textarea"), { value: JSON.stringify(schema.example, null, 2), rows: 8, spellcheck: false });
  }
  if (choices) {
    const menu = makeElement("select");
    const text = required ? [] : [makeOption("", "default")];
    menu.append(...text, ...choices.map((choice) => makeOption(choice, choice)));
    return menu;
  }
  const isNumber = kinds.some(({ type }) => type === "integer" || type === "number");
  const hint = schema.default == null || schema.default.length === 0 ? "" : String(schema.default);
  const input = Object.assign(makeElement("input"), { type: "text", required, placeholder: hint });
  return isNumber ? Object.assign(input, { type: "number", step: "any" }) : input;
}
