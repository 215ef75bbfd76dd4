// Reads the card of a model file. ONNX is protobuf: field 14 of the model holds pairs of keys and values.

const METADATA = 14;
const KEY = "sightglass";
const VARINT = 0;
const BYTES = 2;

/** The card of a model file, given as bytes. */
export function readCard(bytes) {
  for (const [field, value] of readFields(bytes)) {
    if (field !== METADATA) continue;
    const entry = Object.fromEntries([...readFields(value)].map(([part, text]) => [part, new TextDecoder().decode(text)]));
    if (entry[1] === KEY) return JSON.parse(entry[2]);
  }
  throw new Error("This is no Sightglass model file: it has no card.");
}

/** The fields of a protobuf message that hold bytes: pairs of number and content. */
function* readFields(bytes) {
  let at = 0;
  const readVarint = () => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = readVarint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    if (kind === BYTES) {
      const length = readVarint();
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else if (kind === VARINT) readVarint();
    else at += kind === 1 ? 8 : 4;
  }
}
