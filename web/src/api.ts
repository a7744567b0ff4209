// What the server is asked. The token came in the address, behind the `#`, and stays in this tab.

const TOKEN = 'blissdata-token';

export class Refused extends Error {}

export class Failed extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly first?: number,
  ) {
    super(message);
  }
}

export function takeToken(): void {
  const found = new URLSearchParams(location.hash.slice(1)).get('token');
  if (found) {
    sessionStorage.setItem(TOKEN, found);
    history.replaceState(null, '', location.pathname);
  }
}

export function token(): string {
  return sessionStorage.getItem(TOKEN) ?? '';
}

export function headers(): Record<string, string> {
  return { authorization: `Bearer ${token()}` };
}

export async function ask(
  path: string,
  params: Record<string, string | number | undefined> = {},
  signal?: AbortSignal,
): Promise<Response> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== '') query.set(name, String(value));
  }
  const answer = await fetch(`${path}?${query}`, { headers: headers(), signal });
  if (answer.status === 401) throw new Refused('The token is missing or wrong');
  if (!answer.ok) {
    const told = (await answer.json().catch(() => ({}))) as { message?: string; first?: number };
    throw new Failed(told.message ?? answer.statusText, answer.status, told.first);
  }
  return answer;
}

/** What an identity field holds, as text. */
export function told(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

export interface ScanRow {
  key: string;
  state: string;
  created: number | null;
  npoints: number | null;
  title: string | null;
  identity: Record<string, unknown>;
}

export interface StreamRow {
  name: string;
  kind: string | null;
  dtype: string | null;
  shape: number[] | null;
  length: number | null;
  sealed: boolean | null;
  info: Record<string, unknown>;
  problem: string | null;
}

export interface WholeScan extends ScanRow {
  info: Record<string, unknown>;
  streams: StreamRow[];
  problem: string | null;
}

export interface ScanPage {
  scans: ScanRow[];
  total: number;
  next: string | null;
}

export async function listScans(params: Record<string, string | undefined>): Promise<ScanPage> {
  return (await ask('api/scans', params)).json() as Promise<ScanPage>;
}

export async function loadScan(key: string): Promise<WholeScan> {
  return (await ask('api/scan', { key })).json() as Promise<WholeScan>;
}

export async function lastValues(key: string): Promise<Record<string, unknown>> {
  const found = (await (await ask('api/last', { key })).json()) as {
    values: Record<string, unknown>;
  };
  return found.values;
}

export async function takeSnapshot(file: string): Promise<number> {
  const found = (await (await ask('api/snapshot', { file })).json()) as { version: number };
  return found.version;
}

export type Numbers =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array;

export interface Block {
  values: Numbers;
  shape: number[];
  start: number;
  length: number;
}

const ARRAYS: Record<string, (buffer: ArrayBuffer) => Numbers> = {
  b1: (buffer) => new Uint8Array(buffer),
  i1: (buffer) => new Int8Array(buffer),
  u1: (buffer) => new Uint8Array(buffer),
  i2: (buffer) => new Int16Array(buffer),
  u2: (buffer) => new Uint16Array(buffer),
  i4: (buffer) => new Int32Array(buffer),
  u4: (buffer) => new Uint32Array(buffer),
  f4: (buffer) => new Float32Array(buffer),
  f8: (buffer) => new Float64Array(buffer),
};

// Points of a stream. What JavaScript has no array for comes as float64.
export async function points(
  key: string,
  stream: StreamRow,
  selection: string,
  asFloat: boolean,
  signal?: AbortSignal,
): Promise<Block> {
  const exact = /^(bool|u?int(8|16|32)|float(32|64))$/.test(stream.dtype ?? '');
  const dtype = asFloat || !exact ? 'float' : 'safe';
  const answer = await ask('api/points', { key, stream: stream.name, selection, dtype }, signal);
  const kind = (answer.headers.get('x-dtype') ?? '<f8').slice(1);
  const make = ARRAYS[kind];
  if (!make) throw new Failed(`${stream.name} holds ${kind}: no numbers that can be drawn`, 422);
  return {
    values: make(await answer.arrayBuffer()),
    shape: JSON.parse(answer.headers.get('x-shape') ?? '[0]') as number[],
    start: Number(answer.headers.get('x-start')),
    length: Number(answer.headers.get('x-length')),
  };
}

/** An image, or what of it fits on the screen: each pixel the highest of `step` × `step`. */
export interface Drawing {
  values: Numbers;
  shape: [rows: number, columns: number];
  index: number;
  step: number;
  whole: [rows: number, columns: number];
  limits: [low: number, high: number, positive: number | null] | null;
}

export async function picture(
  key: string,
  stream: string,
  index: number,
  room: readonly [rows: number, columns: number] | null,
): Promise<Drawing> {
  const size = room ? { rows: room[0], columns: room[1] } : {};
  const answer = await ask('api/picture', { key, stream, index, ...size });
  const header = <T,>(name: string): T => JSON.parse(answer.headers.get(name) ?? 'null') as T;
  const make = ARRAYS[(answer.headers.get('x-dtype') ?? '').slice(1)];
  if (!make) throw new Failed(`${stream} holds no numbers that can be drawn`, 422);
  return {
    values: make(await answer.arrayBuffer()),
    shape: header('x-shape'),
    index: header('x-start'),
    step: header('x-step'),
    whole: header('x-whole'),
    limits: header('x-limits'),
  };
}

export interface More {
  start?: number;
  count?: number;
  length?: number;
  problem?: string;
  first?: number;
  values: Float64Array;
}

// The next points of many streams, in one question.
export async function more(key: string, wanted: readonly (readonly [string, number])[]): Promise<More[]> {
  const query = new URLSearchParams({ key });
  for (const [name, from] of wanted) {
    query.append('stream', name);
    query.append('from', String(from));
  }
  const answer = await fetch(`api/more?${query}`, { headers: headers() });
  if (answer.status === 401) throw new Refused('The token is missing or wrong');
  const buffer = await answer.arrayBuffer();
  if (!answer.ok) {
    const told = JSON.parse(new TextDecoder().decode(buffer) || '{}') as { message?: string };
    throw new Failed(told.message ?? answer.statusText, answer.status);
  }
  const size = new DataView(buffer).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size))) as More[];
  let at = 4 + size;
  return told.map((one) => {
    const values = new Float64Array(buffer, at, one.count ?? 0);
    at += values.byteLength;
    return { ...one, values };
  });
}

export async function saveScan(scan: ScanRow): Promise<void> {
  const answer = await ask('api/export', { key: scan.key });
  const name = /filename="([^"]+)"/.exec(answer.headers.get('content-disposition') ?? '')?.[1];
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name ?? 'scan.h5';
  link.click();
  URL.revokeObjectURL(link.href);
}
