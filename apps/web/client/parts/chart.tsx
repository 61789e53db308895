/** Charts in SVG. The legend is the readout: it shows the step under the pointer, otherwise the last one. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "./icon.tsx";
import { axisTime, duration, number, shortTime } from "./format.ts";
import { ticksOf } from "./ticks.ts";

const HEIGHT = 200;
const STEP = 10;
const GAP = 2;

interface Series {
  readonly name: string;
  /** The last part of the classes that colour it: `fail`, `ok`, `run`, … */
  readonly tone: string;
  readonly values: readonly (number | null)[];
  readonly dashed?: boolean;
}

export interface ChartProps {
  /** When each step begins; milliseconds since 1970. */
  readonly times: readonly number[];
  readonly stepMs: number;
  readonly series: readonly Series[];
  readonly kind: "bars" | "lines";
  /** What it shows, as a sentence for those who cannot see it. */
  readonly label: string;
  readonly format?: (value: number) => string;
  readonly height?: "lo" | "mid";
  /** At the end of the legend, for the step that it shows. */
  readonly more?: (step: number) => ComponentChildren;
  /** Whether its numbers follow as a table. Otherwise they are elsewhere on the page. */
  readonly hasNumbers?: boolean;
}

function totalsOf(series: readonly Series[], kind: ChartProps["kind"], steps: number): number[] {
  return Array.from({ length: steps }, (_, step) =>
    kind === "bars"
      ? series.reduce((sum, { values }) => sum + (values[step] ?? 0), 0)
      : series.reduce((most, { values }) => Math.max(most, values[step] ?? 0), 0),
  );
}

function lastKnown(series: readonly Series[], steps: number): number {
  const known = series.map(({ values }) => values.findLastIndex((value) => value !== null)).filter((step) => step >= 0);
  return known.length === 0 ? steps - 1 : Math.max(...known);
}

export function Chart(props: ChartProps): JSX.Element {
  const { times, stepMs, series, kind, label, format = number, height, more, hasNumbers = true } = props;
  const steps = times.length;
  const [at, setAt] = useState<number>();
  const shown = at === undefined || at >= steps ? lastKnown(series, steps) : at;
  const most = totalsOf(series, kind, steps).reduce((highest, each) => Math.max(highest, each), 0);
  const ticks = ticksOf(most, height === undefined ? 5 : 2, format === duration);
  const top = ticks.at(-1) ?? 1;
  const labels = height === undefined ? 6 : 2;
  const stepAt = ({ currentTarget, clientX }: PointerEvent): number => {
    const { left, width } = (currentTarget as Element).getBoundingClientRect();
    return Math.min(steps - 1, Math.max(0, Math.floor(((clientX - left) / width) * steps)));
  };
  return (
    <>
      <ul class="legend">
        {series.map(({ name, tone, values, dashed = false }) => (
          <li key={name}>
            <svg aria-hidden="true" viewBox="0 0 12 12">
              {kind === "bars" ? <Swatch tone={tone} /> : <path class={`l-${tone} ${dashed ? "dash" : ""}`} d="M0 6h12" />}
            </svg>
            {name} <b>{values[shown] === null || values[shown] === undefined ? "–" : format(values[shown])}</b>
          </li>
        ))}
        {more?.(shown)}
        <li class="muted push num">{shortTime(new Date(times[shown] ?? 0))}</li>
      </ul>
      <div class="chart">
        <div class="y" aria-hidden="true">
          {ticks.toReversed().map((value) => (
            <span key={value}>{value === 0 ? "0" : format(value)}</span>
          ))}
        </div>
        <svg
          class={`plot ${height ?? ""}`}
          viewBox={`0 0 ${steps * STEP} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={label}
          onPointerMove={(event) => setAt(stepAt(event))}
          onPointerLeave={() => setAt(undefined)}
        >
          {ticks.map((value) => (
            <path key={value} class="grid" d={`M0 ${HEIGHT - (value / top) * HEIGHT}H${steps * STEP}`} />
          ))}
          {kind === "bars" ? <Bars series={series} steps={steps} top={top} /> : <Lines series={series} top={top} />}
          {at !== undefined && <path class="cross" d={`M${(shown + 0.5) * STEP} 0V${HEIGHT}`} />}
        </svg>
        <div class="x" aria-hidden="true">
          {Array.from({ length: labels + 1 }, (_, index) => (
            <span key={index}>{axisTime(new Date(times[Math.floor(((steps - 1) * index) / labels)] ?? 0), steps * stepMs)}</span>
          ))}
        </div>
      </div>
      {hasNumbers && <Numbers {...props} />}
    </>
  );
}

/** Success is the usual, so it is pale under a dark edge. */
const CAP = 2.6;

function Swatch({ tone }: { readonly tone: string }): JSX.Element {
  if (tone !== "ok") return <rect class={`a-${tone}`} width="12" height="12" rx="2" />;
  return (
    <>
      <rect class="a-soft" width="12" height="12" rx="2" />
      <path class="a-ok" d="M0 2a2 2 0 0 1 2-2h8a2 2 0 0 1 2 2v1.5H0z" />
    </>
  );
}

/** Each series stands on those after it. */
function Bars({ series, steps, top }: { readonly series: readonly Series[]; readonly steps: number; readonly top: number }): JSX.Element {
  const bases = Array.from({ length: steps }, () => HEIGHT);
  const paths = [...series].reverse().map(({ name, tone, values }) => {
    const caps: string[] = [];
    const bars = bases.map((base, step) => {
      const size = ((values[step] ?? 0) / top) * HEIGHT;
      if (size <= 0) return "";
      const end = base - size;
      bases[step] = end;
      caps.push(barPath(step, end + Math.min(CAP, size), end));
      return barPath(step, base, end);
    });
    if (tone !== "ok") return <path key={name} class={`a-${tone}`} d={bars.join("")} />;
    return (
      <g key={name}>
        <path class="a-soft" d={bars.join("")} />
        <path class="a-ok" d={caps.join("")} />
      </g>
    );
  });
  return <>{paths}</>;
}

function barPath(step: number, from: number, to: number): string {
  const size = (from - to).toFixed(1);
  return `M${step * STEP + GAP / 2} ${from.toFixed(1)}v-${size}h${STEP - GAP}v${size}z`;
}

/** Nothing is drawn where nothing is known. */
function linePath(values: readonly (number | null)[], top: number, height: number): string {
  return values
    .map((value, step) => {
      if (value === null) return "";
      const isFirst = (values[step - 1] ?? null) === null;
      const isAlone = isFirst && (values[step + 1] ?? null) === null;
      const x = isAlone ? `${step * STEP}` : `${(step + 0.5) * STEP}`;
      const y = (height - (value / top) * height).toFixed(1);
      return `${isFirst ? "M" : "L"}${x} ${y}${isAlone ? `h${STEP}` : ""}`;
    })
    .join("");
}

/** The room under a line, to the ground. */
function areaPath(values: readonly (number | null)[], top: number, height: number): string {
  return linePath(values, top, height)
    .split("M")
    .filter((part) => part.includes("L"))
    .map((part) => `M${part}V${height}H${part.slice(0, part.indexOf(" "))}z`)
    .join("");
}

function Lines({ series, top }: { readonly series: readonly Series[]; readonly top: number }): JSX.Element {
  const [first] = series;
  return (
    <>
      {first !== undefined && <path class={`t-${first.tone}`} d={areaPath(first.values, top, HEIGHT)} />}
      {series.map(({ name, tone, values, dashed = false }) => (
        <path key={name} class={`l-${tone} ${dashed ? "dash" : ""}`} d={linePath(values, top, HEIGHT)} />
      ))}
    </>
  );
}

/** The same numbers as a table. Drawn only when it is opened. */
export function Numbers({ times, series, format = number }: ChartProps): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  return (
    <details class="data" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>
        <Icon name="chev" class="chev" />
        Numbers as a table
      </summary>
      {isOpen && (
        <table>
          <thead>
            <tr>
              <th scope="col">From</th>
              {series.map(({ name }) => (
                <th key={name} scope="col" class="n">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {times.map((time, step) => (
              <tr key={time}>
                <td class="num">{shortTime(new Date(time))}</td>
                {series.map(({ name, values }) => (
                  <td key={name} class="n">
                    {values[step] === null || values[step] === undefined ? "–" : format(values[step])}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </details>
  );
}

export interface SparkProps {
  readonly values: readonly (number | null)[];
  readonly tone: string;
  readonly label: string;
  readonly wide?: boolean;
}

/** A small line without axes. */
export function Spark({ values, tone, label, wide = false }: SparkProps): JSX.Element {
  const top = values.reduce<number>((most, value) => Math.max(most, value ?? 0), 0) || 1;
  return (
    <svg
      class={wide ? "spark wide" : "spark"}
      viewBox={`0 -1 ${Math.max(1, values.length) * STEP} 26`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      <path class={`t-${tone}`} d={areaPath(values, top, 24)} />
      <path class={`l-${tone}`} d={linePath(values, top, 24)} />
    </svg>
  );
}
