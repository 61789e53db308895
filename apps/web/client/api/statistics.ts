/** Counts over time, as series for charts. */
import { href, query } from "../location.ts";
import { useQuery, type Query } from "./query.ts";
import type { Statistics, StatisticsItem } from "./types.ts";

const EVERY_MS = 5_000;
/** About this many steps fit a chart. */
const STEPS = 90;
const WIDTHS = ["1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "6h", "12h", "1d"] as const;
const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

export function lengthMs(text: string): number {
  return Number(text.slice(0, -1)) * (UNIT_MS[text.slice(-1)] ?? 0);
}

/** Ranges without end are as long as counts are kept. */
const LONGEST_MS = 400 * 86_400_000;

/** How long the range of an address is. */
export function rangeMs(of: URLSearchParams, standard: string): number {
  const from = of.get("from");
  if (from !== null) return Date.parse(of.get("to") ?? new Date().toISOString()) - Date.parse(from);
  const range = of.get("range") ?? standard;
  return range === "all" ? LONGEST_MS : lengthMs(range);
}

/** The width of a chart's steps for the range of the address. */
export function stepFor(standard: string): string {
  const whole = rangeMs(query.value, standard);
  return WIDTHS.find((width) => whole / lengthMs(width) <= STEPS * 1.1) ?? "1d";
}

export const RANGE = ["range", "from", "to"] as const;

/** The range of the address, as parameters. @param standard the range if the address has none. */
export function askedRange(standard?: string): URLSearchParams {
  const asked = new URLSearchParams();
  for (const name of RANGE) {
    const value = query.value.get(name) ?? (name === "range" && !query.value.has("from") ? standard : undefined);
    if (value !== undefined) asked.set(name, value);
  }
  return asked;
}

const WITH_RANGE: ReadonlySet<string> = new Set(["", "tasks", "failures", "types"]);

/** The address of a page. A range that was chosen goes along. */
export function pageHref(to: string): string {
  return href(to, WITH_RANGE.has(to) ? askedRange() : {});
}

export interface StatisticsInput {
  readonly range: string;
  readonly step?: string;
  readonly by?: string;
  readonly name?: string | undefined;
  readonly everyMs?: number;
}

export function useStatistics({ range, step, by, name, everyMs = EVERY_MS }: StatisticsInput): Query<Statistics> {
  const asked = askedRange(range);
  for (const [key, value] of Object.entries({ step, by, name })) if (value !== undefined) asked.set(key, value);
  return useQuery<Statistics>(`statistics?${asked.toString()}`, { everyMs });
}

/** When each step begins; milliseconds since 1970. */
export function timesOf({ from, to }: Statistics, step: string): readonly number[] {
  const width = lengthMs(step);
  const first = Math.floor(Date.parse(from) / width) * width;
  return Array.from({ length: Math.max(1, Math.ceil((Date.parse(to) - first) / width)) }, (_, index) => first + index * width);
}

/** A value for each step; `missing` where nothing was counted. */
export function seriesOf<T, I extends Pick<StatisticsItem, "at"> = StatisticsItem>(
  items: readonly I[],
  times: readonly number[],
  { value, missing }: { readonly value: (item: I) => T; readonly missing: T },
): readonly T[] {
  const byTime = new Map(items.map((item) => [Date.parse(item.at ?? ""), value(item)]));
  return times.map((time) => byTime.get(time) ?? missing);
}

export function perMinute(count: number, step: string): number {
  return (count * 60_000) / lengthMs(step);
}
