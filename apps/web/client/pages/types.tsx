/** Task types: how often each runs, how often it fails, and how long it takes. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import { useStatistics } from "../api/statistics.ts";
import type { Statistics, StatisticsItem, TaskType } from "../api/types.ts";
import { href, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, isLive } from "../parts/bar.tsx";
import { Icon } from "../parts/icon.tsx";
import { Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { TaskName, taskHref } from "../parts/task.tsx";
import { duration, number, rate } from "../parts/format.ts";
import { Duration, Time } from "../parts/time.tsx";

const STANDARD_RANGE = "24h";
const EVERY_MS = 10_000;

interface Row {
  readonly name: string;
  /** Undefined if none was counted in the range. */
  readonly counted: StatisticsItem | undefined;
  readonly failed: number;
  readonly succeeded: number;
  readonly type: TaskType | undefined;
}

function rowsOf(types: readonly TaskType[], byName: Statistics | undefined, byStatus: Statistics | undefined): Row[] {
  const counts = (name: string, status: string): number =>
    byStatus?.items.find((item) => item.name === name && item.status === status)?.count ?? 0;
  const counted = new Map((byName?.items ?? []).map((item) => [item.name ?? "", item]));
  const known = new Map(types.map((type) => [type.name, type]));
  return [...new Set([...counted.keys(), ...known.keys()])]
    .filter((name) => name !== "")
    .map((name) => ({
      name,
      counted: counted.get(name),
      type: known.get(name),
      failed: counts(name, "FAILURE"),
      succeeded: counts(name, "SUCCESS"),
    }));
}

export function Types(): JSX.Element {
  const [text, setText] = useState("");
  const asked = useQuery<{ readonly items: readonly TaskType[] }>("task-types", { everyMs: isLive.value ? EVERY_MS : undefined });
  const byName = useStatistics({ range: STANDARD_RANGE, by: "name" });
  const byStatus = useStatistics({ range: STANDARD_RANGE, by: "name,status" });
  const all = rowsOf(asked.data?.items ?? [], byName.data, byStatus.data);
  const shown = all.filter(({ name }) => name.toLowerCase().includes(text.trim().toLowerCase()));
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
              placeholder="Part of a name"
              autocomplete="off"
              value={text}
              onInput={({ currentTarget }) => setText(currentTarget.value)}
            />
          </div>
        </form>
        <Failing query={asked} />
        <section class="panel" aria-label="Task types">
          {asked.data === undefined ? (
            asked.error === undefined && <Loading />
          ) : shown.length > 0 ? (
            <Table rows={shown} range={byName.data} />
          ) : all.length > 0 ? (
            <Empty icon="search" title="Nothing found" />
          ) : (
            <Empty icon="types" title="No task has been seen yet">
              <p>
                Start the workers with <Setting>celery worker -E</Setting>, and this page fills by itself.
              </p>
            </Empty>
          )}
        </section>
      </div>
    </>
  );
}

function Table({ rows, range }: { readonly rows: readonly Row[]; readonly range: Statistics | undefined }): JSX.Element {
  const minutes = range === undefined ? 1 : Math.max(1, (Date.parse(range.to) - Date.parse(range.from)) / 60_000);
  const scale = scaleOf(rows);
  const here = { range: query.value.get("range"), from: query.value.get("from"), to: query.value.get("to") };
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Task</th>
          <th scope="col" class="n">
            A minute
          </th>
          <th scope="col" class="n">
            Failed
          </th>
          <th scope="col" class="p1">
            Runtime{scale !== undefined && `, ${duration(scale.from)} to ${duration(scale.to)}, log scale`}
          </th>
          <th scope="col" class="n p2">
            p50
          </th>
          <th scope="col" class="n">
            p95
          </th>
          <th scope="col" class="n p2">
            p99
          </th>
          <th scope="col" class="n p3">
            Wait p95
          </th>
          <th scope="col" class="n p3">
            Last seen
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map(({ name, counted, failed, succeeded, type }) => (
          <tr key={name} data-row={name}>
            <th scope="row" class="w">
              <a class="cut" href={href("tasks", { name, ...here })} title={name} data-open>
                <TaskName name={name} />
              </a>
            </th>
            <td class="n">{counted === undefined ? <span class="nil">0</span> : rate(counted.count / minutes)}</td>
            <td class="n">
              {failed === 0 ? (
                <span class="nil">0</span>
              ) : (
                <a class="bad" href={href("failures", { name, ...here })} title={`${number(failed)} tasks`}>
                  {((failed / Math.max(1, failed + succeeded)) * 100).toFixed(1)} %
                </a>
              )}
            </td>
            <td class="p1">{counted !== undefined && scale !== undefined && <Range item={counted} scale={scale} />}</td>
            <td class="n p2">
              <Duration seconds={counted?.runtime.p50} />
            </td>
            <td class="n">
              <Duration seconds={counted?.runtime.p95} />
            </td>
            <td class="n p2">
              <Duration seconds={counted?.runtime.p99} />
            </td>
            <td class="n p3">
              <Duration seconds={counted?.wait.p95} />
            </td>
            <td class="n p3 soft">
              {type === undefined ? (
                <span class="nil">–</span>
              ) : (
                <a href={taskHref(type.last_task_id)}>
                  <Time at={type.last_seen_at} />
                </a>
              )}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

interface Scale {
  readonly from: number;
  readonly to: number;
}

/** From the shortest median to the longest p99. */
function scaleOf(rows: readonly Row[]): Scale | undefined {
  const times = rows
    .flatMap(({ counted }) => [counted?.runtime.p50 ?? null, counted?.runtime.p99 ?? null])
    .filter((time) => time !== null && time > 0) as number[];
  const from = times.reduce((least, time) => Math.min(least, time), Infinity);
  const to = times.reduce((most, time) => Math.max(most, time), 0);
  return times.length === 0 ? undefined : { from: from / 2, to: Math.max(to, from * 2) };
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
