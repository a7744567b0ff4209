// The points that this page has: pulled as streams grow, one request in flight per stream.

import { Failed, points, type StreamRow } from './api';

const PIECE = 1_000_000;

export class Points {
  private data = new Float64Array(1024);
  private pulling = false;
  private wanted = 0;
  private readonly listeners = new Set<() => void>();
  /** Index in the stream of the first point that is here. */
  start = 0;
  count = 0;
  problem: string | null = null;
  ended = false;

  constructor(
    private readonly key: string,
    private readonly stream: StreamRow,
  ) {}

  /** The points that are here; those before `start` have left the server. */
  get values(): Float64Array {
    return this.data.subarray(0, this.count);
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The stream has so many points now. */
  grow(length: number): void {
    if (length < this.start + this.count) {
      // The server came back with fewer points than there were.
      this.start = 0;
      this.count = 0;
      this.tell();
    }
    this.wanted = length;
    if (!this.pulling) void this.pull();
  }

  private async pull(): Promise<void> {
    this.pulling = true;
    try {
      while (this.start + this.count < this.wanted && !this.ended) {
        const from = this.start + this.count;
        const to = Math.min(this.wanted, from + PIECE);
        const block = await points(this.key, this.stream, `${from}:${to}`, true);
        if (block.start !== this.start + this.count) continue;
        if (block.values.length === 0) break;
        this.add(block.values as Float64Array);
      }
      this.problem = null;
    } catch (error) {
      if (error instanceof Failed && error.first !== undefined && error.first > this.start) {
        this.start = error.first;
        this.count = 0;
        this.problem = `points 0 to ${error.first - 1} have left the server`;
        this.pulling = false;
        void this.pull();
        return;
      }
      this.problem = String((error as Error).message);
      this.tell();
    } finally {
      this.pulling = false;
    }
  }

  private add(values: Float64Array): void {
    const needed = this.count + values.length;
    if (needed > this.data.length) {
      const larger = new Float64Array(Math.max(needed, 2 * this.data.length));
      larger.set(this.values);
      this.data = larger;
    }
    this.data.set(values, this.count);
    this.count = needed;
    this.tell();
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

/** The points of one scan, by stream. */
export class ScanPoints {
  private readonly streams = new Map<string, Points>();

  constructor(private readonly key: string) {}

  of(stream: StreamRow): Points {
    let found = this.streams.get(stream.name);
    if (!found) {
      found = new Points(this.key, stream);
      this.streams.set(stream.name, found);
    }
    return found;
  }

  end(): void {
    for (const one of this.streams.values()) one.ended = true;
  }
}
