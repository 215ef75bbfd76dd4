// The call behind what is shown, as a line for a shell.

/** `picture.source` is what writes it to a pipe, where it is no file of the user's. */
export async function makeCurl(picture, fields, needsKey) {
  const parts = Object.entries(fields).map(([name, value]) => `-F ${quote(`${name}=${value}`)}`);
  const key = needsKey ? ['-H "Authorization: Bearer $SIGHTGLASS_KEY"'] : [];
  const image = picture.path
    ? `curl -s ${quote(new URL(picture.path, location.href))} | `
    : picture.isFile
      ? ""
      : `printf %s ${await encode(picture.blob)} | base64 -d | `;
  const file = picture.isFile ? `@"${picture.name.replace(/["\\]/g, "\\$&")}"` : "@-";
  return [
    `${image}curl`,
    ...key,
    `-F ${quote(`image=${file}`)}`,
    ...parts,
    quote(new URL("/gradcam", location.href)),
    "-o heatmap.png",
  ].join(" ");
}

const quote = (text) => {
  const plain = String(text);
  return /^[\w@:/.=-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", "'\\''")}'`;
};

async function encode(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
