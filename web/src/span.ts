// What is seen of an axis: moved and zoomed, never beyond what there is.

export type Span = readonly [low: number, high: number];

/** Moved by a part of its width. */
export function moved(seen: Span, all: Span, part: number): Span {
  const width = Math.min(seen[1] - seen[0], all[1] - all[0]);
  const low = Math.min(Math.max(seen[0] + part * width, all[0]), all[1] - width);
  return [low, low + width];
}

/** `factor` times as wide, around a place between 0, its low end, and 1. */
export function zoomedBy(seen: Span, all: Span, factor: number, place: number): Span {
  const width = seen[1] - seen[0];
  const around = seen[0] + place * width;
  const wide = Math.min(width * factor, all[1] - all[0]);
  const low = Math.min(Math.max(around - place * wide, all[0]), all[1] - wide);
  return [low, low + wide];
}
