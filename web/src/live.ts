// What the server tells: one websocket, which comes back by itself.

import { ask, Refused, token } from './api';

export type Lengths = ReadonlyMap<string, readonly [length: number, sealed: boolean]>;

export interface News {
  connected: boolean;
  refused: boolean;
  /** Why the store cannot be asked at present. */
  problem: string | null;
  /** Grows when the list of scans is not what it was. */
  list: number;
  /** Grows when everything that was known may be outdated. */
  epoch: number;
  newest: string | null;
  states: ReadonlyMap<string, string>;
  lengths: ReadonlyMap<string, Lengths>;
}

const RETRY_MS = [500, 1000, 2000, 3000];

export class Live {
  private news: News = {
    connected: false,
    refused: false,
    problem: null,
    list: 0,
    epoch: 0,
    newest: null,
    states: new Map(),
    lengths: new Map(),
  };
  private readonly listeners = new Set<() => void>();
  private socket: WebSocket | null = null;
  private watched: string[] = [];
  private failures = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly get = (): News => this.news;

  watch(keys: string[]): void {
    this.watched = keys;
    const lengths = new Map([...this.news.lengths].filter(([key]) => keys.includes(key)));
    this.change({ lengths });
    this.say({ type: 'watch', keys });
  }

  connect(): void {
    const url = new URL('api/live', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    url.hash = '';
    const socket = new WebSocket(url, ['blissdata.viewer', `token.${token()}`]);
    this.socket = socket;
    socket.onmessage = (event) => {
      this.take(JSON.parse(String(event.data)) as Record<string, unknown>);
      this.say({ type: 'read' });
    };
    socket.onclose = () => void this.reconnect();
  }

  private async reconnect(): Promise<void> {
    this.change({ connected: false });
    try {
      await ask('api/scans', { limit: 1 });
    } catch (error) {
      if (error instanceof Refused) {
        this.change({ refused: true });
        return;
      }
    }
    const wait = RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)];
    setTimeout(() => this.connect(), wait);
  }

  private say(message: unknown): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private change(changes: Partial<News>): void {
    this.news = { ...this.news, ...changes };
    for (const listener of this.listeners) listener();
  }

  private take(message: Record<string, unknown>): void {
    const { news } = this;
    switch (message.type) {
      case 'hello':
        this.failures = 0;
        this.change({
          connected: true,
          problem: (message.problem as string | null) ?? null,
          list: news.list + 1,
          epoch: news.epoch + 1,
          states: new Map(),
        });
        this.say({ type: 'watch', keys: this.watched });
        return;
      case 'store':
        this.change({ problem: (message.problem as string | null) ?? null });
        return;
      case 'scans': {
        const states = new Map(news.states);
        for (const [key, state] of Object.entries(message.scan_state as Record<string, string>)) {
          states.set(key, state);
        }
        const came = message.scan_new as string[];
        const outdated = message.everything === true;
        this.change({
          states,
          newest: came.at(-1) ?? news.newest,
          list: news.list + (came.length > 0 || outdated ? 1 : 0),
          epoch: news.epoch + (outdated ? 1 : 0),
        });
        return;
      }
      case 'lengths': {
        const key = message.key as string;
        if (!this.watched.includes(key)) return;
        const ours = new Map(news.lengths.get(key));
        const told = message.lengths as Record<string, [number, boolean]>;
        for (const [name, length] of Object.entries(told)) ours.set(name, length);
        this.change({ lengths: new Map(news.lengths).set(key, ours) });
      }
    }
  }
}

export const live = new Live();
