/** Charts in SVG. The legend is the readout: it shows the step under the pointer, otherwise the last one. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { changed, href, navigate, page } from "../location.ts";
import { Icon } from "./icon.tsx";
import { axisTime, number, shortTime } from "./format.ts";

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
  /** Whether dragging chooses a range of time. */
  readonly canZoom?: boolean;
  readonly more?: ComponentChildren;
}

/** A round number that is not less. */
function roundUp(value: number): number {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 4, 5, 10].find((factor) => factor * size >= value) ?? 10) * size;
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
  const { times, stepMs, series, kind, label, format = number, height, canZoom = false, more } = props;
  const steps = times.length;
  const [at, setAt] = useState<number>();
  const [from, setFrom] = useState<number>();
  const shown = at === undefined || at >= steps ? lastKnown(series, steps) : at;
  const top = roundUp(totalsOf(series, kind, steps).reduce((most, each) => Math.max(most, each), 0));
  const stepAt = ({ currentTarget, clientX }: PointerEvent): number => {
    const { left, width } = (currentTarget as Element).getBoundingClientRect();
    return Math.min(steps - 1, Math.max(0, Math.floor(((clientX - left) / width) * steps)));
  };
  const zoom = (to: number): void => {
    if (from === undefined) return;
    setFrom(undefined);
    const first = times[Math.min(from, to)];
    const last = times[Math.max(from, to)];
    if (first === undefined || last === undefined || from === to) return;
    const range = { range: null, from: new Date(first).toISOString(), to: new Date(last + stepMs).toISOString() };
    navigate(href(page.value, changed(range)));
  };
  return (
    <>
      <ul class="legend">
        {series.map(({ name, tone, values, dashed = false }) => (
          <li key={name}>
            <svg aria-hidden="true" viewBox="0 0 12 12">
              {kind === "bars" ? (
                <rect class={`a-${tone}`} width="12" height="12" rx="2" />
              ) : (
                <path class={`l-${tone} ${dashed ? "dash" : ""}`} d="M0 6h12" />
              )}
            </svg>
            {name} <b>{values[shown] === null || values[shown] === undefined ? "–" : format(values[shown])}</b>
          </li>
        ))}
        {more}
        <li class="muted push num">{shortTime(new Date(times[shown] ?? 0))}</li>
      </ul>
      <div class="chart">
        <div class="y" aria-hidden="true">
          {[top, top / 2, 0].map((value) => (
            <span key={value}>{format(value)}</span>
          ))}
        </div>
        <svg
          class={`plot ${height ?? ""} ${canZoom ? "zooms" : ""}`}
          viewBox={`0 0 ${steps * STEP} ${HEIGHT}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={label}
          onPointerMove={(event) => setAt(stepAt(event))}
          onPointerLeave={() => {
            setAt(undefined);
            setFrom(undefined);
          }}
          onPointerDown={canZoom ? (event) => setFrom(stepAt(event)) : undefined}
          onPointerUp={canZoom ? (event) => zoom(stepAt(event)) : undefined}
        >
          {[0, HEIGHT / 2, HEIGHT].map((y) => (
            <path key={y} class="grid" d={`M0 ${y}H${steps * STEP}`} />
          ))}
          {kind === "bars" ? <Bars series={series} steps={steps} top={top} /> : <Lines series={series} top={top} />}
          {from !== undefined && at !== undefined && (
            <rect class="chosen" x={Math.min(from, at) * STEP} width={(Math.abs(at - from) + 1) * STEP} height={HEIGHT} />
          )}
          {at !== undefined && <path class="cross" d={`M${(shown + 0.5) * STEP} 0V${HEIGHT}`} />}
        </svg>
        <div class="x" aria-hidden="true">
          {[0, Math.floor((steps - 1) / 2), steps - 1].map((step, index) => (
            <span key={index}>{axisTime(new Date(times[step] ?? 0), steps * stepMs)}</span>
          ))}
        </div>
      </div>
      <Numbers {...props} format={format} />
    </>
  );
}

/** Each series stands on those after it. */
function Bars({ series, steps, top }: { readonly series: readonly Series[]; readonly steps: number; readonly top: number }): JSX.Element {
  const bases = Array.from({ length: steps }, () => HEIGHT);
  const paths = [...series].reverse().map(({ name, tone, values }) => {
    const bars = bases.map((base, step) => {
      const size = ((values[step] ?? 0) / top) * HEIGHT;
      if (size <= 0) return "";
      bases[step] = base - size;
      return `M${step * STEP + GAP / 2} ${base.toFixed(1)}v${(-size).toFixed(1)}h${STEP - GAP}v${size.toFixed(1)}z`;
    });
    return <path key={name} class={`a-${tone}`} d={bars.join("")} />;
  });
  return <>{paths}</>;
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

function Lines({ series, top }: { readonly series: readonly Series[]; readonly top: number }): JSX.Element {
  return (
    <>
      {series.map(({ name, tone, values, dashed = false }) => (
        <path key={name} class={`l-${tone} ${dashed ? "dash" : ""}`} d={linePath(values, top, HEIGHT)} />
      ))}
    </>
  );
}

/** The same numbers as a table. Drawn only when it is opened. */
function Numbers({ times, series, format = number }: ChartProps): JSX.Element {
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

/** What is below a line, where it is known. */
function areaPath(values: readonly (number | null)[], top: number, height: number): string {
  const known = values.map((value, step) => ({ value, step })).filter(({ value }) => value !== null);
  const parts = known.map(({ value, step }) => {
    const x = (step + 0.5) * STEP;
    const isFirst = (values[step - 1] ?? null) === null;
    const isLast = (values[step + 1] ?? null) === null;
    return `${isFirst ? `M${x} ${height}` : ""}L${x} ${(height - ((value ?? 0) / top) * height).toFixed(1)}${isLast ? `V${height}z` : ""}`;
  });
  return parts.join("");
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
