// What H5Web needs of the package `ndarray`, by its documented interface, in plain code: the package makes its
// classes with `new Function`, which `script-src 'self'` forbids.

type Values = { readonly length: number; [index: number]: unknown };

export class View {
  constructor(
    readonly data: Values,
    readonly shape: number[],
    readonly stride: number[],
    readonly offset: number,
  ) {}

  get dimension(): number {
    return this.shape.length;
  }

  get size(): number {
    return this.shape.reduce((product, n) => product * n, 1);
  }

  get dtype(): string {
    const name = /^(\w+)Array$/.exec(this.data.constructor.name)?.[1] ?? '';
    return name === '' ? 'array' : name === 'Uint8Clamped' ? 'uint8_clamped' : name.toLowerCase();
  }

  /** The axes, those with the smallest steps first. */
  get order(): number[] {
    const steps = this.stride.map(Math.abs);
    return steps.map((_, axis) => axis).sort((a, b) => (steps[a] ?? 0) - (steps[b] ?? 0));
  }

  get T(): View {
    return this.transpose(...this.shape.map((_, axis) => this.dimension - 1 - axis));
  }

  index(...place: number[]): number {
    return this.stride.reduce((sum, step, axis) => sum + step * (place[axis] ?? 0), this.offset);
  }

  get(...place: number[]): unknown {
    return this.data[this.index(...place)];
  }

  set(...args: unknown[]): unknown {
    const place = args.slice(0, this.dimension) as number[];
    this.data[this.index(...place)] = args[this.dimension];
    return args[this.dimension];
  }

  lo(...starts: (number | null)[]): View {
    const from = this.shape.map((_, axis) => Math.max(starts[axis] ?? 0, 0));
    return new View(
      this.data,
      this.shape.map((n, axis) => n - (from[axis] ?? 0)),
      this.stride,
      this.index(...from),
    );
  }

  hi(...ends: (number | null)[]): View {
    const shape = this.shape.map((n, axis) => {
      const end = ends[axis];
      return typeof end === 'number' && end >= 0 ? end : n;
    });
    return new View(this.data, shape, this.stride, this.offset);
  }

  step(...steps: (number | null)[]): View {
    let offset = this.offset;
    const shape = [...this.shape];
    const stride = [...this.stride];
    steps.forEach((step, axis) => {
      if (typeof step !== 'number') return;
      const n = shape[axis] ?? 0;
      const width = stride[axis] ?? 0;
      if (step < 0) offset += width * (n - 1);
      shape[axis] = Math.ceil(n / Math.abs(step));
      stride[axis] = width * step;
    });
    return new View(this.data, shape, stride, offset);
  }

  transpose(...axes: number[]): View {
    const full = this.shape.map((_, axis) => axes[axis] ?? axis);
    return new View(
      this.data,
      full.map((axis) => this.shape[axis] ?? 0),
      full.map((axis) => this.stride[axis] ?? 0),
      this.offset,
    );
  }

  pick(...places: (number | null)[]): View {
    const fixed = (axis: number): boolean => {
      const place = places[axis];
      return typeof place === 'number' && place >= 0;
    };
    const kept = this.shape.map((_, axis) => axis).filter((axis) => !fixed(axis));
    return new View(
      this.data,
      kept.map((axis) => this.shape[axis] ?? 0),
      kept.map((axis) => this.stride[axis] ?? 0),
      this.index(...this.shape.map((_, axis) => (fixed(axis) ? (places[axis] ?? 0) : 0))),
    );
  }
}

export default function ndarray(
  data: Values,
  shape: number[] = [data.length],
  stride?: number[],
  offset?: number,
): View {
  const steps = stride ?? shape.map((_, axis) => shape.slice(axis + 1).reduce((p, n) => p * n, 1));
  const start =
    offset ??
    steps.reduce((sum, step, axis) => sum - (step < 0 ? ((shape[axis] ?? 1) - 1) * step : 0), 0);
  return new View(data, shape, steps, start);
}
