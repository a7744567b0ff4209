import { useEffect, useMemo, useRef, useState } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import type { StreamRow, WholeScan } from './api';
import { decimated, orderOf } from './decimate';
import type { Lengths } from './live';
import { channels, label, type Plot } from './plots';
import { useRemembered } from './remember';
import { moved, type Span, zoomedBy } from './span';
import type { Points, ScanPoints } from './store';

const COLOURS = ['#2f7ed8', '#e4572e', '#2ca02c', '#b8860b', '#9467bd', '#17a2b8', '#d6438a', '#7f7f7f'];
const INDEX = '';

/** How much of what is seen an arrow key moves by. */
const STEP = 0.2;

interface Props {
  plot: Extract<Plot, { kind: 'curves' }>;
  scan: WholeScan;
  points: ScanPoints;
  lengths: Lengths;
}

interface Choice {
  x: string | null;
  y: string[];
}

export function Curves({ plot, scan, points, lengths }: Props) {
  const scalars = channels(scan, 0);
  const names = scalars.map((one) => one.name);
  const where = `curves:${String(scan.identity.name)}:${plot.id}`;
  const [choice, setChoice] = useRemembered<Choice | null>(where, null);
  const [log, setLog] = useRemembered(`${where}:log`, false);
  const [auto, setAuto] = useRemembered('autoscale', true);
  const x = choice ? (choice.x !== null && names.includes(choice.x) ? choice.x : null) : plot.x;
  const kept = choice?.y.filter((name) => names.includes(name)) ?? [];
  const y = kept.length > 0 ? kept : plot.y;
  const toggle = (name: string) => {
    const next = y.includes(name) ? y.filter((one) => one !== name) : [...y, name];
    if (next.length > 0) setChoice({ x, y: next });
  };
  return (
    <div className="curves">
      <div className="controls">
        <label>
          x{' '}
          <select
            aria-label="Horizontal axis"
            value={x ?? INDEX}
            onChange={(e) => setChoice({ x: e.target.value === INDEX ? null : e.target.value, y })}
          >
            <option value={INDEX}>index</option>
            {names.map((name) => (
              <option key={name} value={name}>
                {label(scan, name)}
              </option>
            ))}
          </select>
        </label>
        <label>
          <input type="checkbox" checked={log} onChange={(e) => setLog(e.target.checked)} /> log
        </label>
        <label>
          <input type="checkbox" checked={auto} onChange={(e) => setAuto(e.target.checked)} /> autoscale
        </label>
      </div>
      <Canvas
        key={`${x}|${y.join('|')}|${log}`}
        scan={scan}
        points={points}
        lengths={lengths}
        x={x}
        y={y}
        right={plot.right}
        log={log}
        auto={auto}
      />
      <div className="channels" role="group" aria-label="Channels">
        {names.map((name) => (
          <button type="button" key={name} aria-pressed={y.includes(name)} onClick={() => toggle(name)}>
            <i className={`dot c${y.indexOf(name) % COLOURS.length}`} />
            {label(scan, name)}
          </button>
        ))}
      </div>
    </div>
  );
}

interface CanvasProps {
  scan: WholeScan;
  points: ScanPoints;
  lengths: Lengths;
  x: string | null;
  y: string[];
  right: string[];
  log: boolean;
  auto: boolean;
}

function Canvas({ scan, points, lengths, x, y, right, log, auto }: CanvasProps) {
  const box = useRef<HTMLDivElement>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [mixed, setMixed] = useState(false);
  const scaling = useRef(auto);
  scaling.current = auto;

  const streams = useMemo(
    () =>
      [...(x === null ? [] : [x]), ...y]
        .map((name) => scan.streams.find((one) => one.name === name))
        .filter((one): one is StreamRow => one !== undefined),
    // The rows are made anew when the scan is loaded again; what is drawn is the same.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [scan.key, x, y.join('|')],
  );
  const stores = useMemo(() => streams.map((one) => points.of(one)), [streams, points]);

  useEffect(() => {
    streams.forEach((stream, i) => {
      const length = lengths.get(stream.name)?.[0];
      if (length !== undefined) (stores[i] as Points).grow(length);
    });
  }, [lengths, streams, stores]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const [xs, ys] = x === null ? [null, stores] : [stores[0] ?? null, stores.slice(1)];
    const look = { scan, x, y, right, log, mixed };
    const chart = new Chart(element, look, xs, ys, scaling, setProblem, setMixed);
    return () => chart.end();
    // How it looks is part of this component's key.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [stores, mixed]);

  return (
    <>
      <div
        className="canvas"
        ref={box}
        role="img"
        tabIndex={0}
        aria-label={`Curves of ${y.join(', ')}`}
        title="Drag to zoom, double-click for the whole; Shift and wheel, or the arrow keys, to move; Ctrl and wheel, or + and −, to zoom"
      />
      {problem && <p className="problem">{problem}</p>}
    </>
  );
}

interface Look {
  scan: WholeScan;
  x: string | null;
  y: string[];
  right: string[];
  log: boolean;
  /** x goes back and forth: points without lines between them. */
  mixed: boolean;
}

class Chart {
  private readonly plot: uPlot;
  private readonly resizer: ResizeObserver;
  private readonly scheme = matchMedia('(prefers-color-scheme: dark)');
  private readonly unlisten: (() => void)[];
  private range: [number, number] | null = null;
  private frame = 0;
  private drawing = false;

  constructor(
    private readonly element: HTMLElement,
    look: Look,
    private readonly xs: Points | null,
    private readonly ys: Points[],
    private readonly scaling: { current: boolean },
    private readonly tell: (problem: string | null) => void,
    private readonly tellMixed: (mixed: boolean) => void,
  ) {
    const { mixed } = look;
    this.mixed = mixed;
    const colour = (name: string) => () =>
      getComputedStyle(document.documentElement).getPropertyValue(name).trim() || '#888';
    const axis = { stroke: colour('--text'), grid: { stroke: colour('--grid'), width: 1 }, ticks: { stroke: colour('--grid') } };
    const hasRight = look.y.some((name) => look.right.includes(name));
    this.log = look.log;
    this.plot = new uPlot(
      {
        ...this.size(),
        scales: {
          // One point has a place, though no extent.
          x: { time: false, range: (_, low, high) => (low === high && low !== null ? [low - 0.5, high + 0.5] : [low, high]) },
          y: { distr: look.log ? 3 : 1 },
          ...(hasRight ? { right: { distr: look.log ? 3 : 1 } } : {}),
        },
        axes: [
          { ...axis, label: look.x === null ? 'index' : label(look.scan, look.x), labelSize: 22, size: 40 },
          { ...axis, scale: 'y', size: 66 },
          ...(hasRight ? [{ ...axis, scale: 'right', side: 1 as const, size: 66 }] : []),
        ],
        series: [
          { label: look.x === null ? 'index' : label(look.scan, look.x) },
          ...look.y.map((name, i) => ({
            label: label(look.scan, name),
            scale: look.right.includes(name) ? 'right' : 'y',
            stroke: COLOURS[i % COLOURS.length] as string,
            width: mixed ? 0 : 1.5,
            // The colours come round again; from then on lines are dashed.
            dash: [[], [8, 4], [2, 3]][Math.floor(i / COLOURS.length) % 3],
            // Of many curves only few points have a mark: there would be nothing but marks.
            points: mixed ? { show: true, size: 5 } : { size: 5, space: 10 + 2 * look.y.length },
          })),
        ],
        cursor: { drag: { x: true, y: false } },
        hooks: {
          setScale: [
            (_, name) => {
              if (name === 'x' && !this.drawing) this.zoomed();
            },
          ],
        },
      },
      [[], ...look.y.map(() => [])],
      element,
    );
    this.unlisten = [...(xs ? [xs] : []), ...ys].map((one) => one.listen(this.schedule));
    this.resizer = new ResizeObserver(() => {
      this.plot.setSize(this.size());
      this.schedule();
    });
    this.resizer.observe(element);
    this.plot.over.addEventListener('wheel', this.wheel, { passive: false });
    element.addEventListener('keydown', this.key);
    this.scheme.addEventListener('change', this.redraw);
    this.theme.observe(document.documentElement, { attributeFilter: ['data-theme'] });
    this.schedule();
  }

  private readonly log: boolean;
  private readonly mixed: boolean;
  private readonly theme = new MutationObserver(() => this.redraw());

  /** The room that the legend leaves. */
  private size(): { width: number; height: number } {
    const legend = this.element.querySelector<HTMLElement>('.u-legend')?.offsetHeight ?? 32;
    return {
      width: Math.max(this.element.clientWidth, 200),
      height: Math.max(this.element.clientHeight - legend, 160),
    };
  }

  private readonly redraw = (): void => this.plot.redraw(false, true);

  private readonly schedule = (): void => {
    if (!this.frame) this.frame = requestAnimationFrame(this.draw);
  };

  /** Somebody zoomed, or went back to the whole. */
  private zoomed(): void {
    const { min, max } = this.plot.scales.x as { min?: number; max?: number };
    const data = this.plot.data[0];
    const [first, last] = [data[0] ?? NaN, data.at(-1) ?? NaN];
    const whole = (min ?? NaN) <= first && (max ?? NaN) >= last;
    this.range = whole || min === undefined || max === undefined ? null : [min, max];
    this.schedule();
  }

  /** What is seen of x, and all that there is. */
  private extents(): { seen: Span; all: Span } | null {
    const { min, max } = this.plot.scales.x as { min?: number; max?: number };
    const xs = this.xs?.values;
    const first = Math.max(0, ...this.ys.map((one) => one.start));
    const last = Math.max(0, ...this.ys.map((one) => one.end)) - 1;
    const ends = xs ? [xs[0] ?? NaN, xs.at(-1) ?? NaN] : [first, last];
    const all: Span = [Math.min(...ends), Math.max(...ends)];
    return min === undefined || max === undefined || !(all[0] < all[1]) ? null : { seen: [min, max], all };
  }

  /** Moves by a part of what is seen; false where there is nothing to move. */
  private move(part: number): boolean {
    const found = this.extents();
    if (!found || this.mixed || this.range === null) return false;
    const [min, max] = moved(found.seen, found.all, part);
    this.plot.setScale('x', { min, max });
    return true;
  }

  /** Shows `factor` of what is seen, around a place between 0 and 1. */
  private zoom(factor: number, place: number): boolean {
    const found = this.extents();
    if (!found || this.mixed) return false;
    const [min, max] = zoomedBy(found.seen, found.all, factor, place);
    this.plot.setScale('x', { min, max });
    return true;
  }

  private readonly wheel = (event: WheelEvent): void => {
    const { width, left } = this.plot.over.getBoundingClientRect();
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    let done = false;
    if (event.ctrlKey) done = this.zoom(event.deltaY > 0 ? 1.25 : 0.8, (event.clientX - left) / width);
    else if (sideways) done = this.move(sideways / width);
    if (done) event.preventDefault();
  };

  private readonly key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    let done = false;
    if (event.key === 'ArrowLeft') done = this.move(-STEP);
    else if (event.key === 'ArrowRight') done = this.move(STEP);
    else if (event.key === '+') done = this.zoom(0.5, 0.5);
    else if (event.key === '-') done = this.zoom(2, 0.5);
    if (done) event.preventDefault();
  };

  private readonly draw = (): void => {
    this.frame = 0;
    const first = Math.max(0, ...[...(this.xs ? [this.xs] : []), ...this.ys].map((one) => one.start));
    const cut = (one: Points) => one.values.subarray(Math.max(first - one.start, 0));
    const x = this.xs ? cut(this.xs) : null;
    if (x && (orderOf(x) === 'mixed') !== this.mixed) {
      this.tellMixed(!this.mixed);
      return;
    }
    const drawn = decimated(
      x,
      this.ys.map(cut),
      first,
      this.range,
      this.plot.width,
      this.log,
    );
    this.drawing = true;
    const whole = this.range === null && (this.scaling.current || this.plot.data[0].length === 0);
    this.plot.setData(drawn, whole);
    if (!whole) this.plot.redraw(true, true);
    this.drawing = false;
    this.element.dataset.points = String(Math.max(0, ...this.ys.map((one) => one.start + one.count)));
    this.element.dataset.drawn = String(drawn[0].length);
    const { min, max } = this.plot.scales.x as { min?: number; max?: number };
    this.element.dataset.seen = JSON.stringify([min, max]);
    this.tell([...this.ys].map((one) => one.problem).find((one) => one !== null) ?? null);
  };

  end(): void {
    cancelAnimationFrame(this.frame);
    this.unlisten.forEach((one) => one());
    this.resizer.disconnect();
    this.theme.disconnect();
    this.scheme.removeEventListener('change', this.redraw);
    this.element.removeEventListener('keydown', this.key);
    this.plot.destroy();
  }
}
