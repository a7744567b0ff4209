// The points that this page has: pulled as streams grow, for all streams of a scan in one question, and
// one question at a time.

import { more, type More, type StreamRow } from './api';

const AGAIN_MS = 1000;
const AT_ONCE = 200;

export class Points {
  private data = new Float64Array(1024);
  private wanted = 0;
  private readonly listeners = new Set<() => void>();
  /** Index in the stream of the first point that is here. */
  start = 0;
  count = 0;
  problem: string | null = null;

  constructor(
    private readonly owner: ScanPoints,
    readonly name: string,
  ) {}

  /** The points that are here; those before `start` have left the server. */
  get values(): Float64Array {
    return this.data.subarray(0, this.count);
  }

  get end(): number {
    return this.start + this.count;
  }

  get lacks(): boolean {
    return this.end < this.wanted;
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The stream has so many points now. */
  grow(length: number): void {
    if (length < this.end) {
      // The server came back with fewer points than there were.
      this.start = 0;
      this.count = 0;
      this.tell();
    }
    this.wanted = length;
    if (this.lacks) this.owner.pull(this);
  }

  /** Takes what came; true if something did. */
  take(found: More): boolean {
    if (found.first !== undefined && found.first > this.start) {
      this.start = found.first;
      this.count = 0;
      this.problem = `points 0 to ${found.first - 1} have left the server`;
      this.tell();
      return true;
    }
    if (found.problem !== undefined) {
      this.problem = found.problem;
      this.tell();
      return false;
    }
    if (found.start !== this.end || found.values.length === 0) return false;
    const needed = this.count + found.values.length;
    if (needed > this.data.length) {
      const larger = new Float64Array(Math.max(needed, 2 * this.data.length));
      larger.set(this.values);
      this.data = larger;
    }
    this.data.set(found.values, this.count);
    this.count = needed;
    this.tell();
    return true;
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

/** The points of one scan, by stream. */
export class ScanPoints {
  private readonly streams = new Map<string, Points>();
  private readonly lacking = new Set<Points>();
  private asking = false;
  private ended = false;

  constructor(private readonly key: string) {}

  of(stream: StreamRow): Points {
    let found = this.streams.get(stream.name);
    if (!found) {
      found = new Points(this, stream.name);
      this.streams.set(stream.name, found);
    }
    return found;
  }

  pull(one: Points): void {
    this.lacking.add(one);
    if (this.asking) return;
    this.asking = true;
    queueMicrotask(() => void this.ask());
  }

  private async ask(): Promise<void> {
    while (this.lacking.size > 0 && !this.ended) {
      const now = [...this.lacking].slice(0, AT_ONCE);
      for (const one of now) this.lacking.delete(one);
      try {
        const found = await more(
          this.key,
          now.map((one) => [one.name, one.end] as const),
        );
        now.forEach((one, i) => {
          if (one.take(found[i] as More) && one.lacks) this.lacking.add(one);
        });
      } catch {
        // The server is away, or the scan is gone: the banner tells.
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        for (const one of now) if (one.lacks) this.lacking.add(one);
      }
    }
    this.asking = false;
  }

  begin(): void {
    this.ended = false;
  }

  end(): void {
    this.ended = true;
  }
}
