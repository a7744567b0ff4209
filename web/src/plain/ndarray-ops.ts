// The one operation of the package `ndarray-ops` that H5Web needs, in plain code; see `ndarray.ts`.

import type { View } from './ndarray';

/** Copies values between arrays of one shape. */
export function assign(target: View, source: View): void {
  const { shape } = target;
  const place = shape.map(() => 0);
  let from = source.offset;
  let to = target.offset;
  for (let left = target.size; left > 0; left--) {
    target.data[to] = source.data[from];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const n = shape[axis] ?? 0;
      place[axis] = (place[axis] ?? 0) + 1;
      from += source.stride[axis] ?? 0;
      to += target.stride[axis] ?? 0;
      if ((place[axis] ?? 0) < n) break;
      from -= n * (source.stride[axis] ?? 0);
      to -= n * (target.stride[axis] ?? 0);
      place[axis] = 0;
    }
  }
}
