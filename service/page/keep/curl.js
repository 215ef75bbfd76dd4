// Makes the curl command that returns the picture shown.

/** An example or a drawing is no file of the user, so the command first writes it to a pipe. */
export async function makeCurl(picture, fields, needsKey, path) {
  const fieldOptions = Object.entries(fields).map(([name, value]) => `-F ${quote(`${name}=${value}`)}`);
  const keyOptions = needsKey ? ['-H "Authorization: Bearer $SIGHTGLASS_KEY"'] : [];
  const source = picture.isFile ? "" : `printf %s ${await encodeBase64(picture.blob)} | base64 -d | `;
  const file = picture.isFile ? `@"${picture.name.replace(/["\\]/g, "\\$&")}"` : "@-";
  return [
    `${source}curl`,
    ...keyOptions,
    `-F ${quote(`image=${file}`)}`,
    ...fieldOptions,
    quote(new URL(path, location.href)),
    "-o heatmap.png",
  ].join(" ");
}

const quote = (text) => {
  const word = String(text);
  return /^[\w@:/.=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
};

/** The bytes of a blob in base64. */
export async function encodeBase64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
