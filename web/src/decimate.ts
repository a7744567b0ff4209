// A million points on a thousand pixels: for each column of pixels the lowest and the highest value.

export type Values = Float64Array;
export type Drawn = [xs: number[], ...ys: (number | null)[][]];

export type Order = 'up' | 'down' | 'mixed';

/** Which way x goes; what is not finite has no place on an axis, and makes it mixed. */
export function orderOf(x: Values): Order {
  if (x.length > 0 && !(Number.isFinite(x[0]) && Number.isFinite(x.at(-1)))) return 'mixed';
  let up = true;
  let down = true;
  for (let i = 1; i < x.length && (up || down); i++) {
    const before = x[i - 1] as number;
    const here = x[i] as number;
    if (!(here >= before)) up = false;
    if (!(here <= before)) down = false;
  }
  return up ? 'up' : down ? 'down' : 'mixed';
}

/** First index whose x is not below `value`; x grows. */
function lower(x: Values, value: number): number {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((x[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

const finite = (value: number | undefined, positive: boolean): number | null =>
  value !== undefined && Number.isFinite(value) && (!positive || value > 0) ? value : null;

/** What to draw of curves over a common x: all points where there is room for them, else two for each
 * of `columns`. `x` null: the index, from `start` on. Non-finite values become gaps; with `positive`
 * also those that a logarithm has no place for. */
export function decimated(
  x: Values | null,
  ys: Values[],
  start: number,
  range: readonly [number, number] | null,
  columns: number,
  positive: boolean,
): Drawn {
  const count = Math.min(x ? x.length : Infinity, Math.max(0, ...ys.map((y) => y.length)));
  const order = x ? orderOf(x.subarray(0, count)) : 'up';
  if (order === 'mixed' || order === 'down') return sorted(x as Values, ys, count, columns, positive);
  let first = 0;
  let last = count;
  if (range) {
    if (x) {
      const part = x.subarray(0, count);
      first = Math.max(lower(part, range[0]) - 1, 0);
      last = Math.min(lower(part, range[1]) + 1, count);
    } else {
      first = Math.max(Math.floor(range[0] - start) - 1, 0);
      last = Math.min(Math.ceil(range[1] - start) + 2, count);
    }
  }
  const at = (index: number): number => (x ? (x[index] as number) : start + index);
  const drawn: Drawn = [[], ...ys.map(() => [] as (number | null)[])];
  if (last - first <= 4 * columns) {
    for (let i = first; i < last; i++) {
      drawn[0].push(at(i));
      ys.forEach((y, k) => (drawn[k + 1] as (number | null)[]).push(finite(y[i], positive)));
    }
    return drawn;
  }
  const buckets = 2 * columns;
  const width = (last - first) / buckets;
  const edges = Array.from({ length: buckets + 1 }, (_, b) => first + Math.floor(b * width));
  for (let b = 0; b < buckets; b++) {
    drawn[0].push(at(edges[b] as number), at((edges[b + 1] as number) - 1));
  }
  ys.forEach((y, k) => {
    const out = drawn[k + 1] as (number | null)[];
    for (let b = 0; b < buckets; b++) {
      let low = Infinity;
      let high = -Infinity;
      const end = Math.min(edges[b + 1] as number, y.length);
      for (let i = edges[b] as number; i < end; i++) {
        const value = y[i] as number;
        if (value < low && value > -Infinity && (!positive || value > 0)) low = value;
        if (value > high && value < Infinity) high = value;
      }
      out.push(low === Infinity ? null : low, high === -Infinity || (positive && high <= 0) ? null : high);
    }
  });
  return drawn;
}

/** Points whose x goes down, or back and forth: in the order of x, for that is what can be drawn. */
function sorted(x: Values, ys: Values[], count: number, columns: number, positive: boolean): Drawn {
  const step = Math.max(1, Math.ceil(count / (40 * columns)));
  const indices: number[] = [];
  for (let i = 0; i < count; i += step) if (Number.isFinite(x[i])) indices.push(i);
  indices.sort((a, b) => (x[a] as number) - (x[b] as number));
  return [
    indices.map((i) => x[i] as number),
    ...ys.map((y) => indices.map((i) => finite(y[i], positive))),
  ];
}
