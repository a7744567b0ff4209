// Which pictures a scan is shown as: those that its `plots` ask for, else what suits its channels.

import type { StreamRow, WholeScan } from './api';

export type Plot =
  | { kind: 'curves'; id: string; title: string; x: string | null; y: string[]; right: string[] }
  | { kind: 'scatter'; id: string; title: string; x: string; y: string; value: string }
  | { kind: 'spectra'; id: string; title: string; x: string | null; y: string[] }
  | { kind: 'image'; id: string; title: string; channel: string };

interface Item {
  kind?: string;
  x?: string;
  y?: string;
  value?: string;
  y_axis?: string;
}

const MOST_CURVES = 4;

function isNumbers(stream: StreamRow): boolean {
  return /^(bool|u?int|float|complex)/.test(stream.dtype ?? '');
}

export function channels(scan: WholeScan, dimensions: number): StreamRow[] {
  return scan.streams.filter(
    (stream) => isNumbers(stream) && stream.problem === null && stream.shape?.length === dimensions,
  );
}

export function label(scan: WholeScan, name: string): string {
  const described = (scan.info.channels as Record<string, Record<string, unknown>> | undefined)?.[name];
  const stream = scan.streams.find((one) => one.name === name);
  const shown = (described?.display_name as string | undefined) ?? name;
  const unit = (stream?.info.unit as string | undefined) ?? (described?.unit as string | undefined);
  return unit ? `${shown} [${unit}]` : shown;
}

export function plotsOf(scan: WholeScan): Plot[] {
  const scalars = channels(scan, 0).map((one) => one.name);
  const spectra = channels(scan, 1).map((one) => one.name);
  const images = channels(scan, 2).map((one) => one.name);
  const found: Plot[] = [];
  const asked = Array.isArray(scan.info.plots) ? (scan.info.plots as unknown[]) : [];
  asked.forEach((one, index) => {
    const plot = asPlot(one, index, scalars, spectra);
    if (plot) found.push(plot);
  });
  if (!found.some((plot) => plot.kind === 'curves' || plot.kind === 'scatter') && scalars.length > 0) {
    found.push(usualCurves(scan, scalars));
  }
  if (!found.some((plot) => plot.kind === 'spectra') && spectra.length > 0) {
    found.push({ kind: 'spectra', id: 'spectra', title: 'Spectra', x: null, y: spectra.slice(0, 1) });
  }
  for (const channel of images) {
    found.push({ kind: 'image', id: `image:${channel}`, title: channel, channel });
  }
  return found;
}

function usualCurves(scan: WholeScan, scalars: string[]): Plot {
  const x = axisOf(scan, scalars);
  const y = scalars.filter((name) => name !== x && !/epoch|elapsed_time/.test(name));
  return {
    kind: 'curves',
    id: 'curves',
    title: 'Curves',
    x,
    y: (y.length > 0 ? y : scalars).slice(0, MOST_CURVES),
    right: [],
  };
}

/** The channel of what triggers the scan: usually a motor, or the time. */
function axisOf(scan: WholeScan, scalars: string[]): string | null {
  const chains = scan.info.acquisition_chain as Record<string, { top_master?: string }> | undefined;
  const devices = scan.info.devices as Record<string, { channels?: string[] }> | undefined;
  for (const chain of Object.values(chains ?? {})) {
    const own = devices?.[chain.top_master ?? '']?.channels ?? [];
    const found = own.find((name) => scalars.includes(name));
    if (found) return found;
  }
  return scalars.length > 1 ? (scalars[0] ?? null) : null;
}

function asPlot(one: unknown, index: number, scalars: string[], spectra: string[]): Plot | null {
  if (typeof one !== 'object' || one === null) return null;
  const plot = one as { kind?: string; name?: string; x?: string; items?: unknown };
  const items = (Array.isArray(plot.items) ? plot.items : []).filter(
    (item): item is Item => typeof item === 'object' && item !== null,
  );
  const known = (name: string | undefined, names: string[]): name is string =>
    name !== undefined && names.includes(name);
  const id = `${plot.kind}:${plot.name ?? index}`;
  if (plot.kind === 'curve-plot') {
    const drawn = items.filter((item) => known(item.y, scalars));
    const x = items.map((item) => item.x).find((name) => known(name, scalars)) ?? null;
    const y = [...new Set(drawn.map((item) => item.y as string))];
    const right = drawn.filter((item) => item.y_axis === 'right').map((item) => item.y as string);
    if (y.length === 0) return null;
    return { kind: 'curves', id, title: plot.name ?? 'Curves', x, y, right };
  }
  if (plot.kind === 'scatter-plot') {
    const item = items.find(
      (it) => known(it.x, scalars) && known(it.y, scalars) && known(it.value, scalars),
    );
    if (!item?.x || !item.y || !item.value) return null;
    const title = plot.name ?? 'Scatter';
    return { kind: 'scatter', id, title, x: item.x, y: item.y, value: item.value };
  }
  if (plot.kind === '1d-plot') {
    const y = items.map((item) => item.y).filter((name) => known(name, spectra));
    if (y.length === 0) return null;
    const x = known(plot.x, spectra) ? plot.x : null;
    return { kind: 'spectra', id, title: plot.name ?? 'Spectra', x, y };
  }
  return null;
}
