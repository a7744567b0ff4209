// Images as they come. While they move, no more of one is fetched than there is room for; one that stands
// still, is zoomed or was asked for by its number comes whole.

import { HeatmapMesh, HeatmapVis, useCameraState } from '@h5web/lib';
import ndarray from 'ndarray';
import { type RefObject, useEffect, useMemo, useRef, useState } from 'react';

import { type Drawing, picture, type WholeScan } from './api';
import { ColourControls, type Colours, limited, USUAL } from './Colours';
import type { Lengths } from './live';
import { label } from './plots';
import { useRemembered } from './remember';

/** An image that is the latest for so long stands still. */
const STILL_MS = 700;

/** The room is told in steps of so many pixels, so that a window being resized asks seldom. */
const ROOM_STEP = 128;

type Room = readonly [rows: number, columns: number];

interface Wish {
  index: number;
  room: Room | null;
}

/** True if what is there is what is wished for. */
function fulfils(drawing: Drawing | null, room: Room | null, wish: Wish): boolean {
  if (drawing?.index !== wish.index) return false;
  return drawing.step === 1 || (wish.room !== null && room?.join() === wish.room.join());
}

/** The image at `index`, or whichever is wished for by then: one question at a time. */
function useDrawing(
  scan: WholeScan,
  channel: string,
  { index, room }: Wish,
): { drawing: Drawing | null; problem: string | null } {
  const [drawing, setDrawing] = useState<Drawing | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const wish = useRef<Wish>({ index, room });
  const state = useRef({ asking: false, here: true, drawing: null as Drawing | null, room: null as Room | null });
  const roomText = room?.join();

  useEffect(() => {
    const now = state.current;
    now.here = true;
    return () => {
      now.here = false;
    };
  }, []);

  useEffect(() => {
    const now = state.current;
    const pull = async () => {
      if (now.asking) return;
      now.asking = true;
      try {
        while (now.here && wish.current.index >= 0 && !fulfils(now.drawing, now.room, wish.current)) {
          const asked = wish.current;
          const found = await picture(scan.key, channel, asked.index, asked.room);
          now.drawing = found;
          now.room = asked.room;
          if (!now.here) return;
          setDrawing(found);
          setProblem(null);
          await new Promise((resolve) => requestAnimationFrame(resolve));
        }
      } catch (error) {
        if (now.here) setProblem((error as Error).message);
      } finally {
        now.asking = false;
      }
    };
    wish.current = { index, room };
    void pull();
    const timer = setTimeout(() => {
      wish.current = { index, room: null };
      void pull();
    }, STILL_MS);
    return () => clearTimeout(timer);
    // Of a room its size counts. The scan is another object when the server came back.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [scan, channel, index, roomText]);
  return { drawing, problem };
}

/** How many pixels of the screen an element has, about. */
function useRoom(element: RefObject<HTMLElement>): Room {
  const [room, setRoom] = useState<Room>([512, 1024]);
  useEffect(() => {
    if (!element.current) return;
    const sized = (length: number) =>
      Math.max(1, Math.ceil((length * devicePixelRatio) / ROOM_STEP)) * ROOM_STEP;
    const observer = new ResizeObserver(([entry]) => {
      const box = entry?.contentRect;
      if (box) setRoom([sized(box.height), sized(box.width)]);
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return room;
}

/** Tells whether only a part of the image is seen. */
function ZoomWatch({ onChange }: { onChange: (zoomed: boolean) => void }) {
  const zoomed = useCameraState((camera) => Math.min(camera.scale.x, camera.scale.y) < 0.99, []);
  useEffect(() => onChange(zoomed), [zoomed, onChange]);
  return null;
}

/** A mesh that is drawn nowhere and stays: it keeps the program of the graphics card, which would else be
 * translated anew for every image. */
const NOTHING = ndarray(new Float32Array(1), [1, 1]);

/** Where the pixels of a picture begin, in those of the image, and where the last one ends. */
function edges(count: number, step: number): number[] {
  return Array.from({ length: count + 1 }, (_, i) => i * step);
}

function span(at: number, step: number, size: number): string {
  const first = at * step;
  const last = Math.min(first + step, size) - 1;
  return last > first ? `${first}–${last}` : String(first);
}

interface Props {
  scan: WholeScan;
  lengths: Lengths;
  channel: string;
}

export default function Image({ scan, lengths, channel }: Props) {
  const [colours, setColours] = useRemembered<Colours>(`colours:${channel}`, USUAL);
  const [chosen, setChosen] = useState<number | null>(null);
  const [zoomed, setZoomed] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const room = useRoom(box);
  const count = lengths.get(channel)?.[0] ?? 0;
  const wish: Wish = {
    index: chosen === null ? count - 1 : Math.min(chosen, count - 1),
    room: zoomed || chosen !== null ? null : room,
  };
  const { drawing, problem } = useDrawing(scan, channel, wish);
  const shown = useMemo(() => {
    if (!drawing || drawing.values.length === 0) return null;
    const [rows, columns] = drawing.shape;
    return {
      ...drawing,
      array: ndarray(drawing.values, [rows, columns]),
      x: { value: edges(columns, drawing.step) },
      y: { value: edges(rows, drawing.step) },
    };
  }, [drawing]);
  const [low, high] = limited(drawing?.limits ?? null, colours);
  // What is the same stays the same object: H5Web makes its WebGL anew for another one.
  const domain = useMemo((): [number, number] => [low, high], [low, high]);
  const step = shown?.step ?? 1;
  return (
    <div
      className="picture"
      data-image={drawing?.index ?? -1}
      data-step={drawing?.step}
      data-count={count}
      data-limits={JSON.stringify(drawing?.limits ?? null)}
    >
      <div className="controls">
        <ColourControls value={colours} onChange={setColours} />
        <label>
          <input
            type="checkbox"
            checked={chosen === null}
            onChange={(e) => setChosen(e.target.checked ? null : Math.max(count - 1, 0))}
          />{' '}
          latest
        </label>
        <input
          type="number"
          aria-label="Image"
          min={0}
          max={Math.max(count - 1, 0)}
          value={chosen ?? Math.max(drawing?.index ?? 0, 0)}
          onChange={(e) => setChosen(Math.max(0, Math.floor(Number(e.target.value)) || 0))}
        />
        <span>of {count}</span>
        {step > 1 && (
          <span className="hint" title="The whole image is fetched when it stands still, and when you zoom">
            1 : {step}, the highest of {step} × {step} pixels
          </span>
        )}
        {drawing && !drawing.limits && <span className="hint">no finite number in this image</span>}
      </div>
      {problem && <p className="problem">{problem}</p>}
      <div className="vis" ref={box}>
        {shown && (
          <HeatmapVis
            className="vis"
            dataArray={shown.array}
            domain={domain}
            colorMap={colours.map}
            scaleType={colours.scale}
            aspect="equal"
            abscissaParams={shown.x}
            ordinateParams={shown.y}
            flipYAxis
            title={`${label(scan, channel)} ${shown.index}`}
            renderTooltip={({ xi, yi }) => (
              <>
                row {span(yi, step, shown.whole[0])}, column {span(xi, step, shown.whole[1])}:{' '}
                <b>{String(shown.values[yi * shown.shape[1] + xi])}</b>
              </>
            )}
          >
            <ZoomWatch onChange={setZoomed} />
            <HeatmapMesh
              values={NOTHING}
              domain={domain}
              colorMap={colours.map}
              scaleType={colours.scale}
              scale={0}
            />
          </HeatmapVis>
        )}
      </div>
    </div>
  );
}
