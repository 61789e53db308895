/** Task types: how often each runs, how often it fails, and how long it takes. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import { askedRange, useStatistics } from "../api/statistics.ts";
import type { Statistics, StatisticsItem, TaskType, TrendList, TypeTrend } from "../api/types.ts";
import { changed, href, page, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, rangeName } from "../parts/bar.tsx";
import { Spark } from "../parts/chart.tsx";
import { FailedShare } from "../parts/failed-share.tsx";
import { Icon } from "../parts/icon.tsx";
import { Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { TaskName } from "../parts/task.tsx";
import { ago, duration, number, rate, shortTime } from "../parts/format.ts";
import { Duration, Wait } from "../parts/time.tsx";

const STANDARD_RANGE = "24h";
const EVERY_MS = 10_000;

interface Row {
  readonly name: string;
  /** Undefined if none was counted in the range. */
  readonly counted: StatisticsItem | undefined;
  readonly trend: TypeTrend | undefined;
  readonly type: TaskType | undefined;
}

function rowsOf(types: readonly TaskType[], byName: Statistics | undefined, trends: TrendList | undefined): Row[] {
  const counted = new Map((byName?.items ?? []).map((item) => [item.name ?? "", item]));
  const trend = new Map((trends?.items ?? []).map((item) => [item.name, item]));
  const known = new Map(types.map((type) => [type.name, type]));
  return [...new Set([...counted.keys(), ...known.keys()])]
    .filter((name) => name !== "")
    .map((name) => ({ name, counted: counted.get(name), trend: trend.get(name), type: known.get(name) }));
}

/** The share of those that ended in success or failure. */
function failedShare({ trend }: Row): number {
  return trend === undefined || trend.failed === 0 ? 0 : trend.failed / (trend.failed + trend.succeeded);
}

/** How much longer it runs than a week before: 0.5 for half as long again. */
function change({ trend }: Row): number | undefined {
  if (trend === undefined || trend.mean === null || trend.mean_before === null || trend.mean_before === 0) return undefined;
  return trend.mean / trend.mean_before - 1;
}

const DAY_MS = 86_400_000;
/** Smaller changes are those of every day. */
const SLOWER = 0.2;

const SHOWS: readonly (readonly [string, string, (row: Row) => boolean])[] = [
  ["", "All", () => true],
  ["failing", "Failing", ({ trend }) => (trend?.failed ?? 0) > 0],
  ["slower", "Slower", (row) => (change(row) ?? 0) > SLOWER],
  ["gone", "Not seen today", ({ type }) => type !== undefined && Date.now() - Date.parse(type.last_seen_at) > DAY_MS],
];

/** The greatest first. */
const SORTS: Readonly<Record<string, (row: Row) => number>> = {
  rate: ({ counted }) => counted?.count ?? 0,
  failed: failedShare,
  p50: ({ counted }) => counted?.runtime.p50 ?? -1,
  p95: ({ counted }) => counted?.runtime.p95 ?? -1,
  p99: ({ counted }) => counted?.runtime.p99 ?? -1,
  wait: ({ counted }) => counted?.wait.p95 ?? -1,
  trend: (row) => change(row) ?? -Infinity,
};
const STANDARD_SORT = "rate";

export function Types(): JSX.Element {
  const [text, setText] = useState("");
  const asked = useQuery<{ readonly items: readonly TaskType[] }>("task-types", { everyMs: EVERY_MS });
  const byName = useStatistics({ range: STANDARD_RANGE, by: "name" });
  const { data: trends } = useQuery<TrendList>(`task-types/trends?${askedRange(STANDARD_RANGE).toString()}`, { everyMs: EVERY_MS });
  const all = rowsOf(asked.data?.items ?? [], byName.data, trends);
  const found = all.filter(({ name }) => name.toLowerCase().includes(text.trim().toLowerCase()));
  const show = query.value.get("show") ?? "";
  const by = SORTS[query.value.get("sort") ?? STANDARD_SORT] ?? SORTS[STANDARD_SORT];
  const shown = found
    .filter(SHOWS.find(([value]) => value === show)?.[2] ?? (() => true))
    .sort((one, other) => (by?.(other) ?? 0) - (by?.(one) ?? 0));
  return (
    <>
      <Bar title="Task types" sub={asked.data === undefined ? undefined : `${number(all.length)} names`}>
        <RangeTabs standard={STANDARD_RANGE} />
        <LiveButton />
      </Bar>
      <div class="body">
        <form class="find" role="search" aria-label="Task types" onSubmit={(event) => event.preventDefault()}>
          <div class="query">
            <Icon name="search" />
            <label class="sr" for="types-search">
              Search task types
            </label>
            <input
              id="types-search"
              type="search"
              placeholder="Name, such as shop."
              autocomplete="off"
              value={text}
              onInput={({ currentTarget }) => setText(currentTarget.value)}
            />
          </div>
          <div class="seg" role="group" aria-label="Show">
            {SHOWS.map(([value, name, isShown]) => (
              <a
                key={value}
                href={href(page.value, changed({ show: value === "" ? null : value }))}
                aria-current={value === show ? "true" : undefined}
              >
                {name} {asked.data !== undefined && number(found.filter(isShown).length)}
              </a>
            ))}
          </div>
        </form>
        <Failing query={asked} />
        <section class="panel" aria-label="Task types">
          {asked.data === undefined ? (
            asked.error === undefined && <Loading />
          ) : shown.length > 0 ? (
            <Table rows={shown} range={byName.data} trends={trends} />
          ) : all.length > 0 ? (
            <Empty icon="search" title="Nothing found" />
          ) : (
            <Empty icon="types" title="No task has been seen yet">
              <p>
                Start the workers with <Setting then=",">celery worker -E</Setting> and this page fills by itself.
              </p>
            </Empty>
          )}
        </section>
      </div>
    </>
  );
}

interface HeadProps {
  readonly sort: string;
  readonly class?: string;
  readonly children: string;
}

/** The head of a column, which sorts by it. */
function Head({ sort, class: more = "", children }: HeadProps): JSX.Element {
  const isSorted = (query.value.get("sort") ?? STANDARD_SORT) === sort;
  return (
    <th scope="col" class={`n ${more}`} aria-sort={isSorted ? "descending" : undefined}>
      <a href={href(page.value, changed({ sort: sort === STANDARD_SORT ? null : sort }))}>
        {children}
        {isSorted && <Icon name="dn" />}
      </a>
    </th>
  );
}

interface TableProps {
  readonly rows: readonly Row[];
  readonly range: Statistics | undefined;
  readonly trends: TrendList | undefined;
}

function Table({ rows, range, trends }: TableProps): JSX.Element {
  const since = Date.parse(trends?.counted_since ?? "");
  const from = Date.parse(range?.from ?? "");
  const to = Date.parse(range?.to ?? "");
  // Nothing is known of the time before the first task.
  const isShorter = since > from;
  const minutes = range === undefined ? 1 : Math.max(1, (to - (isShorter ? since : from)) / 60_000);
  const scale = scaleOf(rows);
  const here = { range: query.value.get("range"), from: query.value.get("from"), to: query.value.get("to") };
  const before = trends === undefined || trends.days_before === 7 ? "a week before" : `${trends.days_before} days before`;
  return (
    <>
      <table>
        <thead>
          <tr>
            <th scope="col">Task</th>
            <Head sort="rate">A minute</Head>
            <th scope="col" class="n p1">
              {rangeName(query.value, STANDARD_RANGE)}
            </th>
            <Head sort="failed">Failed</Head>
            <th scope="col" class="p2">
              Runtime{scale !== undefined && `, ${duration(scale.from)} to ${duration(scale.to)}, log scale`}
            </th>
            <Head sort="p50" class="p3">
              p50
            </Head>
            <Head sort="p95">p95</Head>
            <Head sort="p99" class="p3">
              p99
            </Head>
            <Head sort="wait" class="p3">
              Wait p95
            </Head>
            <Head sort="trend" class="p2">
              Trend
            </Head>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <TypeRow key={row.name} row={row} minutes={minutes} scale={scale} here={here} />
          ))}
        </tbody>
      </table>
      <footer>
        <ul class="legend p2">
          <li>
            <svg viewBox="0 0 12 12" aria-hidden="true">
              <rect class="tick" x="5" width="2" height="12" />
            </svg>
            p50
          </li>
          <li>
            <svg viewBox="0 0 12 12" aria-hidden="true">
              <rect class="a-run" width="12" height="12" rx="2" />
            </svg>
            to p95
          </li>
          <li>
            <svg viewBox="0 0 12 12" aria-hidden="true">
              <rect class="a-soft2" width="12" height="12" rx="2" />
            </svg>
            to p99
          </li>
        </ul>
        {isShorter && (
          <span class="muted">
            Rates are over the {ago(minutes * 60_000)} since the first task was counted, {shortTime(new Date(since))}.
          </span>
        )}
        <span class="push muted">
          <span class="p2">Trend: mean run time against {before}. </span>Percentiles are within 25 %.
        </span>
      </footer>
    </>
  );
}

interface TypeRowProps {
  readonly row: Row;
  readonly minutes: number;
  readonly scale: Scale | undefined;
  readonly here: Readonly<Record<string, string | null>>;
}

function TypeRow({ row, minutes, scale, here }: TypeRowProps): JSX.Element {
  const { name, counted, trend } = row;
  const wait = counted?.wait.p95 ?? null;
  return (
    <tr data-row={name}>
      <th scope="row" class="w">
        <a class="cut" href={href("tasks", { name, ...here })} title={name} data-open>
          <TaskName name={name} />
        </a>
      </th>
      <td class="n">{counted === undefined ? <span class="nil">0</span> : rate(counted.count / minutes)}</td>
      <td class="p1">{trend !== undefined && <Spark values={trend.counts} tone="ink" label="Tasks over time" />}</td>
      <td class="n">
        {trend === undefined || trend.failed === 0 ? (
          <span class="nil">0</span>
        ) : (
          <a href={href("failures", { name, ...here })} title={`${number(trend.failed)} tasks`}>
            <FailedShare failed={trend.failed} succeeded={trend.succeeded} />
          </a>
        )}
      </td>
      <td class="p2">{counted !== undefined && scale !== undefined && <Range item={counted} scale={scale} />}</td>
      <td class="n p3">
        <Duration seconds={counted?.runtime.p50} />
      </td>
      <td class="n">
        <Duration seconds={counted?.runtime.p95} />
      </td>
      <td class="n p3">
        <Duration seconds={counted?.runtime.p99} />
      </td>
      <td class="n p3">{wait === null ? <span class="nil">–</span> : <Wait seconds={wait} />}</td>
      <td class="n p2">
        <Trend change={change(row)} />
      </td>
    </tr>
  );
}

function Trend({ change: by }: { readonly change: number | undefined }): JSX.Element {
  if (by === undefined) return <span class="nil">–</span>;
  const value = Math.round(Math.abs(by) * 100);
  const text = by > 9.99 ? `× ${number(Math.round(by + 1))}` : `${value === 0 ? "±" : by > 0 ? "+" : "−"}${number(value)} %`;
  return <span class={by > SLOWER ? "warn" : by < -SLOWER ? "good" : "muted"}>{text}</span>;
}

interface Scale {
  readonly from: number;
  readonly to: number;
}

/** From the shortest median to the longest p99, rounded to a number that is easily read. */
function scaleOf(rows: readonly Row[]): Scale | undefined {
  const times = rows
    .flatMap(({ counted }) => [counted?.runtime.p50 ?? null, counted?.runtime.p99 ?? null])
    .filter((time) => time !== null && time > 0) as number[];
  const from = times.reduce((least, time) => Math.min(least, time), Infinity);
  const to = times.reduce((most, time) => Math.max(most, time), 0);
  return times.length === 0 ? undefined : { from: roundDown(from / 2), to: -roundDown(-Math.max(to, from * 2)) };
}

/** To one digit. */
function roundDown(value: number): number {
  const size = 10 ** Math.floor(Math.log10(Math.abs(value)));
  return Number((Math.floor(value / size + 1e-9) * size).toPrecision(1));
}

/** The median as a mark, p95 dark and p99 light. */
function Range({ item: { runtime }, scale: { from, to } }: { readonly item: StatisticsItem; readonly scale: Scale }): JSX.Element | null {
  const { p50, p95, p99 } = runtime;
  if (p50 === null || p95 === null || p99 === null) return null;
  const x = (seconds: number): number => Math.max(0, Math.min(100, (Math.log(seconds / from) / Math.log(to / from)) * 100));
  const bar = (end: number): string => `${Math.max(0.5, x(end) - x(p50)).toFixed(1)}%`;
  const start = `${x(p50).toFixed(1)}%`;
  return (
    <svg class="rng" role="img" aria-label={`p50 ${duration(p50)}, p95 ${duration(p95)}, p99 ${duration(p99)}`}>
      <rect class="base" y="9" width="100%" height="2" />
      <rect class="a-soft2" x={start} y="6" width={bar(p99)} height="8" rx="2" />
      <rect class="a-run" x={start} y="6" width={bar(p95)} height="8" rx="2" />
      <rect class="tick" x={start} y="3" width="2" height="14" />
    </svg>
  );
}
