// How values become colours: map, scale and limits, as the user chooses them.

import { type ColorMap, ScaleType } from '@h5web/lib';

const MAPS: ColorMap[] = ['Viridis', 'Inferno', 'Magma', 'Plasma', 'Cividis', 'Turbo', 'Greys', 'RdBu'];
const SCALES = [ScaleType.Linear, ScaleType.Log, ScaleType.SymLog, ScaleType.Sqrt] as const;

type Chosen = [low: string, high: string];

export interface Colours {
  map: ColorMap;
  scale: (typeof SCALES)[number];
  limits: Chosen;
}

export const USUAL: Colours = { map: 'Viridis', scale: ScaleType.Linear, limits: ['', ''] };

export function ColourControls({ value, onChange }: { value: Colours; onChange: (next: Colours) => void }) {
  const limit = (which: 0 | 1, text: string) => {
    const limits: Chosen = [...value.limits];
    limits[which] = text;
    onChange({ ...value, limits });
  };
  return (
    <>
      <select
        aria-label="Colour map"
        value={value.map}
        onChange={(e) => onChange({ ...value, map: e.target.value as ColorMap })}
      >
        {MAPS.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
      <select
        aria-label="Scale"
        value={value.scale}
        onChange={(e) => onChange({ ...value, scale: e.target.value as Colours['scale'] })}
      >
        {SCALES.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
      <input
        aria-label="Lowest"
        placeholder="auto"
        inputMode="decimal"
        value={value.limits[0]}
        onChange={(e) => limit(0, e.target.value)}
      />
      <input
        aria-label="Highest"
        placeholder="auto"
        inputMode="decimal"
        value={value.limits[1]}
        onChange={(e) => limit(1, e.target.value)}
      />
    </>
  );
}

/** Between which values colours go: where the user gave none, where the values lie, of which the third
 * is the lowest above zero. */
export function limited(
  found: readonly [low: number, high: number, positive: number | null] | null,
  { limits, scale }: Colours,
): [number, number] {
  const given = limits.map((text) => (text.trim() === '' ? NaN : Number(text)));
  let [low, high] = found ?? [0, 1];
  if (scale === ScaleType.Log) low = found?.[2] ?? 1;
  if (Number.isFinite(given[0])) low = given[0] as number;
  if (Number.isFinite(given[1])) high = given[1] as number;
  if (scale === ScaleType.Log && low <= 0) low = found?.[2] ?? 1;
  if (scale === ScaleType.Sqrt) low = Math.max(low, 0);
  return high > low ? [low, high] : [low, scale === ScaleType.Log ? 10 * low : low + 1];
}

/** Between which values finite numbers lie, and the lowest above zero; null if there are none. */
export function limitsOf(
  values: ArrayLike<number>,
): [low: number, high: number, positive: number | null] | null {
  let low = Infinity;
  let high = -Infinity;
  let positive = Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
    if (value > 0 && value < positive) positive = value;
  }
  return low === Infinity ? null : [low, high, positive === Infinity ? null : positive];
}
