// Images, spectra and scatters, drawn by H5Web's library; loaded when the first one is shown.

import { LineVis, ScaleType, ScatterVis } from '@h5web/lib';
import '@h5web/lib/styles.css';
import ndarray from 'ndarray';
import { useEffect, useMemo, useReducer, useRef, useState } from 'react';

import { type Block, points as fetchPoints, type StreamRow, type WholeScan } from './api';
import { ColourControls, type Colours, limited, limitsOf, USUAL } from './Colours';
import Image from './Image';
import type { Lengths } from './live';
import { channels, label, type Plot } from './plots';
import { useRemembered } from './remember';
import type { ScanPoints } from './store';

interface Props {
  plot: Exclude<Plot, { kind: 'curves' }>;
  scan: WholeScan;
  points: ScanPoints;
  lengths: Lengths;
}

export default function Picture(props: Props) {
  const { plot } = props;
  if (plot.kind === 'image') return <Image {...props} channel={plot.channel} />;
  if (plot.kind === 'spectra') return <Spectra {...props} plot={plot} />;
  return <Scatter {...props} plot={plot} />;
}

/** The newest point of streams, one request in flight; `index` null: the newest. */
function useNewest(
  scan: WholeScan,
  streams: StreamRow[],
  lengths: Lengths,
  index: number | null,
): { blocks: Block[] | null; problem: string | null; index: number } {
  const [found, setFound] = useState<{ blocks: Block[]; index: number } | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const wanted = useRef(-1);
  const asking = useRef(false);
  const key = streams.map((one) => one.name).join('|');
  const common = Math.min(...streams.map((one) => lengths.get(one.name)?.[0] ?? 0));

  useEffect(() => {
    wanted.current = index === null ? common - 1 : Math.min(index, common - 1);
    if (asking.current) return;
    const pull = async () => {
      asking.current = true;
      let shown = -2;
      try {
        while (wanted.current >= 0 && wanted.current !== shown) {
          const at = wanted.current;
          const blocks = await Promise.all(
            streams.map((one) => fetchPoints(scan.key, one, `${at}:${at + 1}`, false)),
          );
          shown = at;
          setFound({ blocks, index: at });
          setProblem(null);
          await new Promise((resolve) => requestAnimationFrame(resolve));
        }
      } catch (error) {
        setProblem((error as Error).message);
      } finally {
        asking.current = false;
      }
    };
    void pull();
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [scan.key, key, common, index]);
  return { blocks: found?.blocks ?? null, problem, index: found?.index ?? -1 };
}

function Spectra({ plot, scan, lengths }: Props & { plot: Extract<Plot, { kind: 'spectra' }> }) {
  const where = `spectra:${String(scan.identity.name)}:${plot.id}`;
  const [chosen, setChosen] = useRemembered<string[] | null>(where, null);
  const [log, setLog] = useRemembered(`${where}:log`, false);
  const every = channels(scan, 1);
  const kept = (chosen ?? plot.y).filter((name) => every.some((one) => one.name === name));
  const y = kept.length > 0 ? kept : plot.y;
  const names = plot.x ? [plot.x, ...y] : y;
  const streams = useMemo(
    () =>
      names
        .map((name) => scan.streams.find((one) => one.name === name))
        .filter((one): one is StreamRow => one !== undefined),
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [scan, names.join('|')],
  );
  const newest = useNewest(scan, streams, lengths, null);
  const blocks = newest.blocks?.length === streams.length ? newest.blocks : null;
  const curves = blocks?.slice(plot.x ? 1 : 0) ?? [];
  const first = curves[0];
  const arrays = curves.map((one) => ndarray(one.values, [one.values.length]));
  const scale = log ? ScaleType.Log : ScaleType.Linear;
  const found = curves.map((one) => limitsOf(one.values)).filter((one) => one !== null);
  const low = Math.min(...found.map((one) => (log ? (one[2] ?? Infinity) : one[0])));
  const high = Math.max(...found.map((one) => one[1]));
  const domain: [number, number] = high > low ? [low, high] : Number.isFinite(low) ? [low, low + 1] : [1, 10];
  const toggle = (name: string) => {
    const next = y.includes(name) ? y.filter((one) => one !== name) : [...y, name];
    if (next.length > 0) setChosen(next);
  };
  const abscissae = plot.x ? blocks?.[0]?.values : undefined;
  return (
    <div className="picture" data-image={newest.index}>
      <div className="controls">
        <label>
          <input type="checkbox" checked={log} onChange={(e) => setLog(e.target.checked)} /> log
        </label>
        <span>point {newest.index}</span>
      </div>
      {newest.problem && <p className="problem">{newest.problem}</p>}
      {first && arrays[0] && (
        <LineVis
          className="vis"
          dataArray={arrays[0]}
          domain={domain}
          scaleType={scale}
          title={y.map((name) => label(scan, name)).join(', ')}
          abscissaParams={{
            label: plot.x ? label(scan, plot.x) : 'index',
            value: abscissae?.length === first.values.length ? abscissae : undefined,
          }}
          auxiliaries={arrays.slice(1).map((array, i) => ({ label: y[i + 1] ?? '', array }))}
        />
      )}
      <div className="channels" role="group" aria-label="Channels">
        {every.map((one) => (
          <button
            type="button"
            key={one.name}
            aria-pressed={y.includes(one.name)}
            onClick={() => toggle(one.name)}
          >
            {label(scan, one.name)}
          </button>
        ))}
      </div>
    </div>
  );
}

function Scatter({ plot, scan, points, lengths }: Props & { plot: Extract<Plot, { kind: 'scatter' }> }) {
  const where = `scatter:${String(scan.identity.name)}:${plot.id}`;
  const [axes, setAxes] = useRemembered<{ x: string; y: string; value: string } | null>(where, null);
  const [colours, setColours] = useRemembered<Colours>('colours:scatter', USUAL);
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const names = channels(scan, 0).map((one) => one.name);
  const known = axes && names.includes(axes.x) && names.includes(axes.y) && names.includes(axes.value);
  const shown = known ? axes : { x: plot.x, y: plot.y, value: plot.value };
  const stores = useMemo(
    () =>
      [shown.x, shown.y, shown.value].map((name) =>
        points.of(scan.streams.find((one) => one.name === name) as StreamRow),
      ),
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [points, shown.x, shown.y, shown.value],
  );
  useEffect(() => {
    const frame = { id: 0 };
    const later = () => {
      if (!frame.id) {
        frame.id = requestAnimationFrame(() => {
          frame.id = 0;
          redraw();
        });
      }
    };
    const ends = stores.map((one) => one.listen(later));
    return () => {
      ends.forEach((end) => end());
      cancelAnimationFrame(frame.id);
    };
  }, [stores]);
  useEffect(() => {
    [shown.x, shown.y, shown.value].forEach((name, i) => {
      const length = lengths.get(name)?.[0];
      if (length !== undefined) stores[i]?.grow(length);
    });
  });
  const count = Math.min(...stores.map((one) => one.count));
  const [x, y, value] = stores.map((one) => Array.from(one.values.subarray(0, count)));
  const array = value && value.length > 0 ? ndarray(value, [value.length]) : null;
  return (
    <div className="picture" data-points={count}>
      <div className="controls">
        {(['x', 'y', 'value'] as const).map((axis) => (
          <label key={axis}>
            {axis}{' '}
            <select
              aria-label={axis}
              value={shown[axis]}
              onChange={(e) => setAxes({ ...shown, [axis]: e.target.value })}
            >
              {names.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        ))}
        <ColourControls value={colours} onChange={setColours} />
      </div>
      {array && x && y && (
        <ScatterVis
          className="vis"
          abscissaParams={{ value: x, label: label(scan, shown.x) }}
          ordinateParams={{ value: y, label: label(scan, shown.y) }}
          dataArray={array}
          domain={limited(limitsOf(value as number[]), colours)}
          colorMap={colours.map}
          scaleType={colours.scale}
          title={label(scan, shown.value)}
          size={8}
        />
      )}
    </div>
  );
}
