import { lazy, Suspense, useEffect, useMemo, useRef, useState } from 'react';

import { lastValues, loadScan, saveScan, told, type WholeScan } from './api';
import { Curves } from './Curves';
import { type Lengths, live, type News } from './live';
import { label, type Plot, plotsOf } from './plots';
import { useRemembered } from './remember';
import { ScanPoints } from './store';
import { Tabs } from './Tabs';

const Tree = lazy(() => import('./Tree'));
const Picture = lazy(() => import('./Picture'));

const NONE: Lengths = new Map();
const LAST_MS = 500;

const VIEWS = [
  ['plots', 'Plots'],
  ['file', 'File'],
] as const;

interface Props {
  scanKey: string;
  news: News;
}

export function ScanView({ scanKey, news }: Props) {
  const [scan, setScan] = useState<WholeScan | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [tab, setTab] = useRemembered<'plots' | 'file'>('tab', 'plots');
  const points = useMemo(() => new ScanPoints(scanKey), [scanKey]);
  const state = news.states.get(scanKey) ?? scan?.state ?? '';
  const lengths = news.lengths.get(scanKey) ?? NONE;
  const streams = lengths.size;

  useEffect(() => {
    live.watch([scanKey]);
    points.begin(); // React's strict mode ends and begins it once more
    return () => {
      live.watch([]);
      points.end();
    };
  }, [scanKey, points]);

  useEffect(() => {
    let here = true;
    if (state === 'GONE') return;
    loadScan(scanKey)
      .then((found) => {
        if (here) {
          setScan(found);
          setProblem(found.problem);
        }
      })
      .catch((error: Error) => here && setProblem(error.message));
    return () => {
      here = false;
    };
  }, [scanKey, state, streams, news.epoch]);

  if (!scan) {
    return <main className="scan">{problem ? <p className="problem">{problem}</p> : 'Loading…'}</main>;
  }
  const { name, number, path } = scan.identity;
  return (
    <main className="scan" data-state={state}>
      <header>
        <h2>
          {told(number)} {scan.title ?? told(name)}
        </h2>
        <span className={`state ${state.toLowerCase()}`} role="status" aria-label="State of the scan">
          {state.toLowerCase()}
        </span>
        <Progress scan={scan} lengths={lengths} state={state} />
        <div className="tools">
          <Tabs label="Views" tabs={VIEWS} chosen={tab} onChoose={setTab} />
          <Save scan={scan} />
        </div>
      </header>
      {state === 'GONE' && (
        <p className="banner" role="alert">
          This scan is not on the server any more. What was drawn stays; its file may still be there.
        </p>
      )}
      {problem && <p className="problem">{problem}</p>}
      {tab === 'plots' ? (
        <Plots scan={scan} points={points} lengths={lengths} />
      ) : typeof path === 'string' && path ? (
        <Suspense fallback={<p className="waiting">Loading H5Web…</p>}>
          <Tree file={path} scan={scan} state={state} lengths={lengths} />
        </Suspense>
      ) : (
        <p className="waiting">This scan names no file.</p>
      )}
    </main>
  );
}

function Save({ scan }: { scan: WholeScan }) {
  const [told, setTold] = useState('');
  const save = () => {
    setTold('…');
    saveScan(scan)
      .then(() => setTold(''))
      .catch((error: Error) => setTold(error.message));
  };
  return (
    <>
      <button type="button" onClick={save} title="This scan as an HDF5 file">
        Save as HDF5
      </button>
      {told && <span className="told">{told}</span>}
    </>
  );
}

function Progress({ scan, lengths, state }: { scan: WholeScan; lengths: Lengths; state: string }) {
  const began = useRef<[time: number, count: number] | null>(null);
  const count = Math.max(0, ...[...lengths.values()].map(([length]) => length));
  const now = performance.now();
  began.current ??= count > 0 ? [now, count] : null;
  const total = scan.npoints;
  let left = '';
  if (began.current && total && state === 'STARTED') {
    const seconds = (now - began.current[0]) / 1000;
    const rate = (count - began.current[1]) / seconds;
    if (seconds > 1 && rate > 0) left = `, ${duration((total - count) / rate)} left`;
  }
  return (
    <span className="progress" data-count={count}>
      {total ? <progress max={total} value={Math.min(count, total)} /> : null}
      {count}
      {total ? ` of ${total}` : ''} point{count === 1 ? '' : 's'}
      {left}
    </span>
  );
}

function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

interface PlotsProps {
  scan: WholeScan;
  points: ScanPoints;
  lengths: Lengths;
}

function Plots({ scan, points, lengths }: PlotsProps) {
  const plots = useMemo(() => plotsOf(scan), [scan]);
  const [chosen, setChosen] = useRemembered<string>(`plot:${String(scan.identity.name)}`, '');
  const plot = plots.find((one) => one.id === chosen) ?? plots[0];
  if (!plot) {
    return (
      <p className="waiting">
        {scan.streams.length === 0 ? 'Waiting for the streams of this scan.' : 'Nothing here can be drawn.'}
      </p>
    );
  }
  const empty = [...lengths.values()].every(([length]) => length === 0);
  return (
    <section className="plots">
      <Tabs
        label="Plots"
        className="plotlist"
        tabs={plots.map((one) => [one.id, one.title] as const)}
        chosen={plot.id}
        onChoose={setChosen}
      />
      {empty && <p className="waiting overlay">Waiting for the first point.</p>}
      <Shown key={plot.id} plot={plot} scan={scan} points={points} lengths={lengths} />
      <Values scan={scan} lengths={lengths} />
    </section>
  );
}

function Shown({ plot, scan, points, lengths }: PlotsProps & { plot: Plot }) {
  if (plot.kind === 'curves') {
    return <Curves plot={plot} scan={scan} points={points} lengths={lengths} />;
  }
  return (
    <Suspense fallback={<p className="waiting">Loading…</p>}>
      <Picture plot={plot} scan={scan} points={points} lengths={lengths} />
    </Suspense>
  );
}

function Values({ scan, lengths }: { scan: WholeScan; lengths: Lengths }) {
  const [values, setValues] = useState<Record<string, unknown>>({});
  const pulling = useRef({ busy: false, here: true, wanted: 0, asked: 0 });
  useEffect(() => {
    const now = pulling.current;
    now.here = true;
    return () => {
      now.here = false;
    };
  }, []);
  useEffect(() => {
    const now = pulling.current;
    now.wanted += 1;
    if (now.busy) return;
    const pull = async () => {
      now.busy = true;
      for (let seen = -1; now.here && seen !== now.wanted; ) {
        await new Promise((done) => setTimeout(done, now.asked + LAST_MS - performance.now()));
        seen = now.wanted;
        now.asked = performance.now();
        const found = await lastValues(scan.key).catch(() => null);
        if (found && now.here) setValues(found);
      }
      now.busy = false;
    };
    void pull();
  }, [scan.key, lengths]);
  const shown = scan.streams.filter((stream) => stream.name in values);
  if (shown.length === 0) return null;
  return (
    <dl className="values" aria-label="Last values">
      {shown.map((stream) => (
        <div key={stream.name}>
          <dt>{label(scan, stream.name)}</dt>
          <dd>{formatted(values[stream.name])}</dd>
        </div>
      ))}
    </dl>
  );
}

function formatted(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : value.toPrecision(6);
  if (Array.isArray(value)) return `${formatted(value[0])} + ${formatted(value[1])}i`;
  return String(value);
}
