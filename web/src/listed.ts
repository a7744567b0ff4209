// Rules of the list of scans: what is kept of it when newer ones come, and which rows are seen.

import type { ScanPage } from './api';

/** How high a row is [pixels]; the style sheet says the same. */
export const ROW_PX = 46;

const AROUND = 8;

/** The list as it was, with its newest part as it is now. Older rows stay, if the new part reaches them. */
export function merged(before: ScanPage | null, now: ScanPage): ScanPage {
  const last = now.scans.at(-1);
  if (!before || !last || now.next === null) return now;
  const at = before.scans.findIndex((row) => row.key === last.key);
  if (at < 0) return now;
  const scans = [...now.scans, ...before.scans.slice(at + 1)];
  return { ...now, scans, next: before.scans.length > at + 1 ? before.next : now.next };
}

/** The list with older rows at its end. */
export function continued(before: ScanPage, older: ScanPage): ScanPage {
  const known = new Set(before.scans.map((row) => row.key));
  return { ...older, scans: [...before.scans, ...older.scans.filter((row) => !known.has(row.key))] };
}

/** The rows that are seen, and some around them: from, until (exclusive). */
export function seenRows(scrollTop: number, height: number, count: number): [from: number, until: number] {
  const from = Math.max(0, Math.floor(scrollTop / ROW_PX) - AROUND);
  const until = Math.min(count, Math.ceil((scrollTop + height) / ROW_PX) + AROUND);
  return [Math.min(from, until), until];
}

/** Where to scroll so that a row is seen. */
export function scrolledTo(index: number, scrollTop: number, height: number): number {
  const top = index * ROW_PX;
  return top < scrollTop ? top : Math.max(scrollTop, top + ROW_PX - height);
}

/** Which row a key leads to; null if the key is for something else. */
export function moved(key: string, at: number, count: number, height: number): number | null {
  const screenful = Math.max(1, Math.floor(height / ROW_PX) - 1);
  const steps: Record<string, number> = {
    ArrowDown: at + 1,
    j: at + 1,
    ArrowUp: at < 0 ? 0 : at - 1,
    k: at < 0 ? 0 : at - 1,
    PageDown: at + screenful,
    PageUp: at - screenful,
    Home: 0,
    End: count - 1,
  };
  const to = steps[key];
  return to === undefined || count === 0 ? null : Math.min(Math.max(to, 0), count - 1);
}

/** When a scan was made: the time today, the day before that. */
export function when(created: number, now: Date): string {
  const date = new Date(created * 1000);
  const two = (n: number): string => String(n).padStart(2, '0');
  return date.toDateString() === now.toDateString()
    ? `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
    : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}
