/** A long time in small, with a window that shows and chooses the range of the page. The address keeps the range. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import { lengthMs, rangeMs, seriesOf, timesOf } from "../api/statistics.ts";
import type { Statistics } from "../api/types.ts";
import { changed, href, navigate, page, query } from "../location.ts";
import { number, shortTime } from "./format.ts";

const EVERY_MS = 30_000;
const MINUTE_MS = 60_000;

/** What it can show: the width of its bars, and the times to which a range is rounded. */
const SPANS = [
  { range: "24h", step: "15m", snapMs: MINUTE_MS },
  { range: "7d", step: "2h", snapMs: 10 * MINUTE_MS },
  { range: "30d", step: "8h", snapMs: 60 * MINUTE_MS },
  { range: "90d", step: "1d", snapMs: 120 * MINUTE_MS },
  { range: "400d", step: "4d", snapMs: 720 * MINUTE_MS },
] as const;
type Span = (typeof SPANS)[number];
const LONGEST = SPANS[4];

/** Milliseconds since 1970. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/** What a pointer or a key moves. `new` draws another window. */
type Grip = "from" | "to" | "both" | "new";

interface Drag {
  readonly grip: Grip;
  /** Where it began. */
  readonly at: number;
  readonly range: Range;
}

export interface BrushProps {
  /** The range of the page if its address has none. */
  readonly standard: string;
  /** Whether it always shows more than the page does. */
  readonly isWider?: boolean;
  /** Tasks that it counts; undefined asks nothing yet. */
  readonly filters: URLSearchParams | undefined;
  /** Says what the bars leave out. */
  readonly hint?: string | undefined;
  /** Since when the page was searched, if not everything was. */
  readonly searchedTo?: string | null | undefined;
}

/** The shortest one that contains the range. A beginning that was chosen at its edge stays in it for the width of a bar. */
function spanOf(standard: string, isWider: boolean): Span {
  const from = query.value.get("from");
  const sinceMs = from === null ? rangeMs(query.value, standard) : Date.now() - Date.parse(from);
  const fits = ({ range, step }: Span): boolean =>
    from !== null ? lengthMs(range) + lengthMs(step) >= sinceMs : isWider ? lengthMs(range) > sinceMs : lengthMs(range) >= sinceMs;
  return SPANS.find(fits) ?? LONGEST;
}

function shownRange(standard: string, span: Span, whole: Range): Range {
  const [from, to] = [query.value.get("from"), query.value.get("to")];
  if (from === null && to === null && (query.value.get("range") ?? standard) === span.range) return whole;
  const end = clamp(to === null ? whole.to : Date.parse(to), whole);
  const begin = from === null ? end - rangeMs(query.value, standard) : Date.parse(from);
  return { from: Math.min(clamp(begin, whole), end), to: end };
}

function clamp(time: number, { from, to }: Range): number {
  return Math.min(to, Math.max(from, time));
}

/** The range after a move to `time`. Grips may pass each other. */
function moved({ grip, at, range }: Drag, time: number, whole: Range, snapMs: number): Range {
  const snap = (value: number): number => clamp(Math.round(value / snapMs) * snapMs, whole);
  if (grip === "both") {
    const by = clamp(time - at, { from: whole.from - range.from, to: whole.to - range.to });
    return { from: snap(range.from + by), to: snap(range.to + by) };
  }
  const fixed = grip === "new" ? snap(at) : grip === "from" ? range.to : range.from;
  return { from: Math.min(fixed, snap(time)), to: Math.max(fixed, snap(time)) };
}

const KEY_STEPS: Readonly<Record<string, number>> = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -8, PageUp: 8 };
/** After the last key: each range is a question to the API and a step back in the browser. */
const KEYS_MS = 500;

export function Brush({ standard, isWider = false, filters, hint, searchedTo }: BrushProps): JSX.Element {
  const span = spanOf(standard, isWider);
  const asked = new URLSearchParams([...(filters ?? []), ["range", span.range], ["step", span.step], ["by", "status"]]);
  const { data, isPrevious } = useQuery<Statistics>(filters === undefined ? undefined : `statistics?${asked.toString()}`, {
    everyMs: EVERY_MS,
  });
  const known = isPrevious ? undefined : data;
  const end = known === undefined ? Date.now() : Date.parse(known.to);
  const whole = { from: known === undefined ? end - lengthMs(span.range) : (timesOf(known, span.step)[0] ?? 0), to: end };
  const [draft, setDraft] = useState<Range>();
  const drag = useRef<Drag>(undefined);
  const timer = useRef<number>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  // A range from elsewhere counts more.
  useEffect(() => setDraft(undefined), [query.value]);

  const shown = draft ?? shownRange(standard, span, whole);
  const isWhole = ({ from, to }: Range): boolean => from - whole.from < span.snapMs && whole.to - to < span.snapMs;
  const choose = (range: Range): void => {
    clearTimeout(timer.current);
    setDraft(undefined);
    if (range.to - range.from < span.snapMs) return;
    const to = whole.to - range.to < span.snapMs ? null : new Date(range.to).toISOString();
    const changes = isWhole(range)
      ? { range: span.range === standard ? null : span.range, from: null, to: null }
      : { range: null, from: new Date(range.from).toISOString(), to };
    navigate(href(page.value, changed(changes)));
  };

  const timeAt = ({ currentTarget, clientX }: PointerEvent): number => {
    const { left, width } = (currentTarget as Element).getBoundingClientRect();
    return clamp(whole.from + ((clientX - left) / width) * (whole.to - whole.from), whole);
  };
  const press = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    const grip = ((event.target as Element).closest<SVGElement>("[data-grip]")?.dataset["grip"] ?? "new") as Grip;
    drag.current = { grip, at: timeAt(event), range: shown };
    (event.currentTarget as Element).setPointerCapture(event.pointerId);
  };
  const move = (event: PointerEvent): void => {
    if (drag.current !== undefined) setDraft(moved(drag.current, timeAt(event), whole, span.snapMs));
  };
  const drop = (event: PointerEvent): void => {
    const begun = drag.current;
    drag.current = undefined;
    if (begun === undefined) return;
    const time = timeAt(event);
    if (begun.at === time) setDraft(undefined);
    else choose(moved(begun, time, whole, span.snapMs));
  };
  const cancel = (): void => {
    drag.current = undefined;
    setDraft(undefined);
  };

  const type = (event: KeyboardEvent): void => {
    const grip = (event.currentTarget as SVGElement).dataset["grip"] as Grip;
    if (event.key === "Enter" && draft !== undefined) choose(draft);
    if (event.key === "Escape") {
      clearTimeout(timer.current);
      setDraft(undefined);
    }
    const at = grip === "to" ? shown.to : shown.from;
    const by = KEY_STEPS[event.key];
    const time =
      event.key === "Home" ? whole.from : event.key === "End" ? whole.to : by === undefined ? undefined : at + by * lengthMs(span.step);
    if (time === undefined) return;
    event.preventDefault();
    // Grips pass each other only under a pointer: a key goes on moving the one that has the focus.
    const limits =
      grip === "from"
        ? { from: whole.from, to: shown.to - span.snapMs }
        : grip === "to"
          ? { from: shown.from + span.snapMs, to: whole.to }
          : undefined;
    const next = moved({ grip, at, range: shown }, limits === undefined ? time : clamp(time, limits), whole, span.snapMs);
    setDraft(next);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => choose(next), KEYS_MS);
  };
  const leave = (): void => {
    if (draft !== undefined && drag.current === undefined) choose(draft);
  };

  const percent = (time: number): number => ((time - whole.from) / (whole.to - whole.from)) * 100;
  const minutes = (time: number): number => Math.round((time - whole.from) / MINUTE_MS);
  const isPartial = searchedTo !== undefined && searchedTo !== null && Date.parse(searchedTo) > shown.from;
  const [left, right] = [percent(shown.from), percent(shown.to)];
  const text = `${shortTime(new Date(shown.from))} to ${whole.to - shown.to < span.snapMs ? "now" : shortTime(new Date(shown.to))}`;
  const slider = (grip: Grip, label: string, time: number) => ({
    role: "slider" as const,
    tabIndex: 0,
    "aria-label": label,
    "aria-valuemin": 0,
    "aria-valuemax": minutes(whole.to),
    "aria-valuenow": minutes(time),
    "aria-valuetext": grip === "both" ? text : shortTime(new Date(time)),
    "data-grip": grip,
    onKeyDown: type,
    onBlur: leave,
  });
  // In a narrow window, what can be taken is beside it.
  const shift = right - left > 8 ? [-12, -12] : [-22, -2];
  return (
    <div class="brushed">
      <svg
        class="brush"
        role="group"
        aria-label={`Time range, in the last ${span.range}`}
        onPointerDown={press}
        onPointerMove={move}
        onPointerUp={drop}
        onPointerCancel={cancel}
      >
        <rect class="base" width="100%" height="100%" rx="4" />
        {known !== undefined && <Counts data={known} step={span.step} whole={whole} />}
        {isPartial && <rect class="unseen" width={`${Math.max(0, percent(Date.parse(searchedTo)))}%`} height="100%" />}
        <rect class="veil" width={`${left}%`} height="100%" />
        <rect class="veil" x={`${right}%`} width={`${100 - right}%`} height="100%" />
        {!isWhole(shown) && (
          <rect class="win" x={`${left}%`} width={`${right - left}%`} height="100%" rx="3" {...slider("both", "Shown time", shown.from)} />
        )}
        <g class="grip" {...slider("from", "From", shown.from)}>
          <rect class="reach" x={`${left}%`} width="24" height="100%" transform={`translate(${shift[0]})`} />
          <rect x={`${left}%`} y="12" width="6" height="16" rx="3" transform="translate(-3)" />
        </g>
        <g class="grip" {...slider("to", "To", shown.to)}>
          <rect class="reach" x={`${right}%`} width="24" height="100%" transform={`translate(${shift[1]})`} />
          <rect x={`${right}%`} y="12" width="6" height="16" rx="3" transform="translate(-3)" />
        </g>
      </svg>
      <div class="row small muted num">
        {!isPartial ? (
          <>
            <span>{shortTime(new Date(whole.from))}</span>
            <span class={draft === undefined ? "push p3" : "push soft"}>
              {draft === undefined ? (hint ?? "Drag to choose a time range") : text}
            </span>
          </>
        ) : (
          <span>
            {shortTime(new Date(whole.from))} to {shortTime(new Date(searchedTo))} not searched yet
          </span>
        )}
        <span class="push">{shortTime(new Date(whole.to))}</span>
      </div>
    </div>
  );
}

const STEP = 10;
const GAP = 2;
const HEIGHT = 40;
/** Above the highest bar. */
const ROOM = 4;
const LEAST_SHARE = 0.01;

interface CountsProps {
  readonly data: Statistics;
  readonly step: string;
  readonly whole: Range;
}

/** All tasks, and those that failed at the bottom of each bar. */
function Counts({ data, step, whole }: CountsProps): JSX.Element {
  const times = timesOf(data, step);
  const sums = (isCounted: (status: string | undefined) => boolean): readonly number[] => {
    const series = new Map<string, number>();
    for (const { at, status, count } of data.items) if (at !== null && isCounted(status)) series.set(at, (series.get(at) ?? 0) + count);
    const items = [...series].map(([at, count]) => ({ at, count }));
    return seriesOf(items, times, { value: ({ count }) => count, missing: 0 });
  };
  const all = sums(() => true);
  const failed = sums((status) => status === "FAILURE");
  const top = Math.max(1, ...all);
  const bars = (values: readonly number[]): string =>
    values
      .map((value, index) => {
        // A share that needs a look is seen, however few tasks these are.
        const least = value >= LEAST_SHARE * (all[index] ?? 0) && value > 0 ? 1 : 0;
        const height = Math.max(least, ((HEIGHT - ROOM) * value) / top).toFixed(1);
        return `M${index * STEP + GAP / 2} ${HEIGHT}v-${height}h${STEP - GAP}v${height}z`;
      })
      .join("");
  const total = all.reduce((sum, count) => sum + count, 0);
  return (
    <svg
      width="100%"
      height="100%"
      viewBox={`0 0 ${((whole.to - whole.from) / lengthMs(step)) * STEP} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`${number(total)} tasks, ${number(failed.reduce((sum, count) => sum + count, 0))} of them failed`}
    >
      <path class="a-wait" d={bars(all)} />
      <path class="a-fail" d={bars(failed)} />
    </svg>
  );
}
