// The interactive docs: every call of /openapi.json, by group, with a form to try it.

import { makeElement } from "../answer/elements.js";
import { call, hasKey, useKey } from "../service/call.js";
import { makeOperation } from "./operation.js";

const CHECKED = "/models"; // a call that needs a key and does nothing
const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

async function start() {
  const description = await (await call("/openapi.json")).json();
  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const sections = description.tags.map(({ name, description: text }) => {
    const section = makeElement("section");
    const heading = makeElement("h2", name);
    section.id = heading.textContent.toLowerCase().replaceAll(/\W+/g, "-");
    section.append(heading, makeElement("p", text, "quiet"));
    section.append(
      ...operations
        .filter(({ operation }) => operation.tags[0] === name)
        .map((found) => makeOperation(found, description.components.schemas)),
    );
    return section;
  });
  elements.calls.replaceChildren(...sections);
  elements.groups.replaceChildren(
    ...sections.map((section) =>
      Object.assign(makeElement("a", section.firstChild.textContent), { href: `#${section.id}` }),
    ),
  );
  elements.authorize.hidden = !description.components.securitySchemes;
  showKey();
  openLinked();
}

/** Open the call that the address names. */
function openLinked() {
  const linked = document.getElementById(location.hash.slice(1));
  if (linked?.tagName === "DETAILS") linked.open = true;
  linked?.scrollIntoView();
}

const showKey = () => (elements.authorize.textContent = hasKey() ? "Authorized. Change key" : "Authorize");

elements.authorize.addEventListener("click", () => elements["key-dialog"].showModal());
elements["key-cancel"].addEventListener("click", () => elements["key-dialog"].close());
elements["key-form"].addEventListener("submit", async (event) => {
  event.preventDefault();
  useKey(elements.key.value);
  try {
    await call(CHECKED);
    elements["key-answer"].textContent = "";
    elements["key-dialog"].close();
  } catch (error) {
    elements["key-answer"].textContent = error.message;
  }
  showKey();
});
addEventListener("hashchange", openLinked);
start().catch((error) => (elements.loading.textContent = error.message));
