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

/** One sentence: where a projected map has at least half of its maximum, and how much that is. */
export function describePlace({ width, height, values }) {
  let [count, x, y] = [0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    if (values[i] < 0.5) continue;
    count++;
    x += i % width;
    y += Math.floor(i / width);
  }
  if (!count) return "";
  const third = (sum, side) => Math.min(2, Math.floor((3 * sum) / count / side));
  const [row, column] = [ROWS[third(y, height)], COLUMNS[third(x, width)]];
  const name = row === "middle" && column === "centre" ? "centre" : `${row} ${column}`;
  const share = SHARES.find(([most]) => count / values.length < most)[1];
  return `The strongest evidence lies in the ${name}: ${share}.`;
}
