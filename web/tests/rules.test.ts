// The page's pure rules, without a browser.

import { describe, expect, test } from 'vitest';

import type { ScanPage, ScanRow, StreamRow, WholeScan } from '../src/api';
import { decimated, orderOf } from '../src/decimate';
import { continued, merged, moved, ROW_PX, scrolledTo, seenRows, when } from '../src/listed';
import { label, plotsOf } from '../src/plots';
import * as span from '../src/span';

const row = (key: number): ScanRow => ({
  key: String(key),
  state: 'CLOSED',
  created: null,
  npoints: null,
  title: null,
  identity: {},
});

const page = (keys: number[], next: string | null): ScanPage => ({ scans: keys.map(row), total: 99, next });

const keys = (one: ScanPage): string => one.scans.map((scan) => scan.key).join(' ');

describe('the list', () => {
  test('keeps older rows when a new scan comes', () => {
    const found = merged(page([5, 4, 3, 2, 1], '0'), page([6, 5, 4], '3'));
    expect(keys(found)).toBe('6 5 4 3 2 1');
    expect(found.next).toBe('0');
  });

  test('begins anew when more came than it asked for', () => {
    expect(keys(merged(page([5, 4], '3'), page([20, 19, 18], '17')))).toBe('20 19 18');
  });

  test('is what the server has when that is all', () => {
    expect(keys(merged(page([5, 4, 3], null), page([4], null)))).toBe('4');
  });

  test('lists nothing twice', () => {
    expect(keys(continued(page([5, 4], '3'), page([4, 3], null)))).toBe('5 4 3');
  });

  test('has the rows in the page that are seen, and few more', () => {
    const [from, until] = seenRows(1000 * ROW_PX, 10 * ROW_PX, 100_000);
    expect(from).toBeLessThanOrEqual(1000);
    expect(until).toBeGreaterThanOrEqual(1010);
    expect(until - from).toBeLessThan(40);
    expect(seenRows(0, 500, 0)).toEqual([0, 0]);
  });

  test('is walked through by keys and does not end in nothing', () => {
    expect(moved('ArrowDown', -1, 3, 500)).toBe(0);
    expect(moved('ArrowDown', 2, 3, 500)).toBe(2);
    expect(moved('End', 0, 3, 500)).toBe(2);
    expect(moved('x', 0, 3, 500)).toBeNull();
    expect(moved('Home', -1, 0, 500)).toBeNull();
    expect(scrolledTo(0, 300, 100)).toBe(0);
    expect(scrolledTo(10, 0, 100)).toBe(11 * ROW_PX - 100);
  });

  test('says the time today and the day before that', () => {
    const now = new Date(2026, 10, 25, 12);
    expect(when(new Date(2026, 10, 25, 9, 5, 3).getTime() / 1000, now)).toBe('09:05:03');
    expect(when(new Date(2026, 10, 24, 23, 59).getTime() / 1000, now)).toBe('2026-11-24');
  });
});

describe('curves', () => {
  test('keep the lowest and the highest value of each column of pixels', () => {
    const y = new Float64Array(1_000_000);
    y[123_456] = 7;
    y[876_543] = -7;
    const [xs, ys] = decimated(null, [y], 0, null, 1000, false);
    expect(xs.length).toBe(4000);
    expect(Math.max(...(ys as number[]))).toBe(7);
    expect(Math.min(...(ys as number[]))).toBe(-7);
  });

  test('have gaps where a value is not finite', () => {
    const y = Float64Array.of(1, NaN, Infinity, -Infinity, 2);
    expect(decimated(null, [y], 10, null, 100, false)).toEqual([
      [10, 11, 12, 13, 14],
      [1, null, null, null, 2],
    ]);
  });

  test('have gaps where a logarithm has no place', () => {
    expect(decimated(null, [Float64Array.of(-1, 0, 5)], 0, null, 100, true)[1]).toEqual([null, null, 5]);
  });

  test('are as long as their x', () => {
    const found = decimated(Float64Array.of(1, 2), [Float64Array.of(3, 4, 5)], 0, null, 100, false);
    expect(found).toEqual([
      [1, 2],
      [3, 4],
    ]);
  });

  test('go the way that x goes', () => {
    expect(orderOf(Float64Array.of(1, 1, 2))).toBe('up');
    expect(orderOf(Float64Array.of(2, 1))).toBe('down');
    expect(orderOf(Float64Array.of(1, 3, 2))).toBe('mixed');
    expect(orderOf(Float64Array.of(NaN))).toBe('mixed');
    expect(orderOf(Float64Array.of(1, Infinity))).toBe('mixed');
  });

  test('over an x that goes back are in its order', () => {
    const found = decimated(Float64Array.of(3, 2, NaN, 1), [Float64Array.of(30, 20, 0, 10)], 0, null, 100, false);
    expect(found).toEqual([
      [1, 2, 3],
      [10, 20, 30],
    ]);
  });
});

const stream = (name: string, dtype: string, shape: number[]): StreamRow => ({
  name,
  kind: null,
  dtype,
  shape,
  length: 0,
  sealed: false,
  info: name === 'diode' ? { unit: 'A' } : {},
  problem: null,
});

const scan = (info: Record<string, unknown>, streams: StreamRow[]): WholeScan => ({
  ...row(1),
  info,
  streams,
  problem: null,
});

describe('plots', () => {
  const streams = [
    stream('samx', 'float64', []),
    stream('diode', 'float64', []),
    stream('mca', 'uint32', [256]),
    stream('camera', 'uint16', [10, 10]),
    stream('note', 'object', []),
  ];

  test('are those that the scan asks for, without unknown channels', () => {
    const items = [{ x: 'samx', y: 'diode' }, { y: 'unknown' }];
    const plots = plotsOf(scan({ plots: [{ kind: 'curve-plot', name: 'one', items }] }, streams));
    expect(plots[0]).toMatchObject({ kind: 'curves', x: 'samx', y: ['diode'] });
    expect(plots.map((plot) => plot.kind)).toEqual(['curves', 'spectra', 'image']);
  });

  test.each([undefined, null, 'x', [null, 1, {}, { kind: 'curve-plot', items: 'x' }]])(
    'are what suits the channels when the scan asks for %j',
    (plots) => {
      const found = plotsOf(scan({ plots }, streams));
      expect(found.map((plot) => plot.kind)).toEqual(['curves', 'spectra', 'image']);
    },
  );

  test('have names with units', () => {
    expect(label(scan({}, streams), 'diode')).toBe('diode [A]');
  });
});

describe('what is seen of an axis', () => {
  test('moves by a part of its width, and not beyond what there is', () => {
    expect(span.moved([20, 30], [0, 100], 0.5)).toEqual([25, 35]);
    expect(span.moved([20, 30], [0, 100], -9)).toEqual([0, 10]);
    expect(span.moved([20, 30], [0, 100], 9)).toEqual([90, 100]);
    expect(span.moved([-5, 200], [0, 100], 0.1)).toEqual([0, 100]);
  });

  test('is zoomed around a place, which stays where it is', () => {
    expect(span.zoomedBy([20, 40], [0, 100], 0.5, 0.25)).toEqual([22.5, 32.5]);
    expect(span.zoomedBy([20, 40], [0, 100], 99, 0.5)).toEqual([0, 100]);
    expect(span.zoomedBy([0, 40], [0, 100], 2, 1)).toEqual([0, 80]);
  });
});
