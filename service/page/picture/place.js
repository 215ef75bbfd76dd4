// Says in words where the heat lies, for people who cannot see it.

const ROWS = ["upper", "middle", "lower"];
const COLUMNS = ["left", "centre", "right"];
const SHARES = [
  [0.04, "a small spot"],
  [0.15, "a tenth of the picture"],
  [0.225, "a fifth of the picture"],
  [0.29, "a quarter of the picture"],
  [0.42, "a third of the picture"],
  [0.6, "half of the picture"],
  [Infinity, "most of the picture"],
];

/** One sentence: where a projected map has its maximum, and how much of the picture has at least half of that. */
export function describePlace({ width, height, values }) {
  let [count, peak] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    if (values[i] >= 0.5) count++;
    if (values[i] > values[peak]) peak = i;
  }
  if (!count) return "";
  const third = (at, side) => Math.floor((3 * at) / side);
  const [row, column] = [ROWS[third(Math.floor(peak / width), height)], COLUMNS[third(peak % width, width)]];
  const name = row === "middle" && column === "centre" ? "centre" : `${row} ${column}`;
  const share = SHARES.find(([most]) => count / values.length < most)[1];
  return `The strongest evidence lies in the ${name}. The warm part is ${share}.`;
}
