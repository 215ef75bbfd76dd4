// Writes a JSON schema as a short outline.

const MOST = 6; // levels

/** One line for each property, with the types of its values. */
export function describeSchema(schema, schemas, level = 0) {
  const shape = schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema;
  if (level > MOST) return "…";
  if (shape.enum) return shape.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in shape) return JSON.stringify(shape.const);
  if (shape.anyOf) return [...new Set(shape.anyOf.map((one) => describeSchema(one, schemas, level)))].join(" | ");
  if (shape.type === "array") return shape.items ? `[${describeSchema(shape.items, schemas, level)}, …]` : "[…]";
  if (!shape.properties) return shape.type === "object" ? "{…}" : (shape.type ?? "any");
  const pad = "  ".repeat(level + 1);
  const required = new Set(shape.required);
  const lines = Object.entries(shape.properties).map(
    ([name, property]) => `${pad}${name}${required.has(name) ? "" : "?"}: ${describeSchema(property, schemas, level + 1)}`,
  );
  return `{\n${lines.join("\n")}\n${"  ".repeat(level)}}`;
}
