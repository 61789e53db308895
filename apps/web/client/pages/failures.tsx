/** Failures in groups: of one task, with one kind of exception and the same first line. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import { askedRange } from "../api/statistics.ts";
import type { FailureDetails, FailureGroup, FailureList, TaskAnswer } from "../api/types.ts";
import { changed, href, navigate, page, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, rangeName } from "../parts/bar.tsx";
import { isNamedBy, keyOf, markOf } from "../parts/failure-group.ts";
import { Icon } from "../parts/icon.tsx";
import { Traceback } from "../parts/python.tsx";
import { Empty, Failing, Loading } from "../parts/say.tsx";
import { Shares, SparkBars } from "../parts/shares.tsx";
import { Badge, IdLink, TaskName, argumentsLine } from "../parts/task.tsx";
import { duration, number } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";

const STANDARD_RANGE = "24h";
const EVERY_MS = 10_000;
const STATUSES = [
  ["FAILURE", "Failed"],
  ["RETRY", "Retrying"],
  ["REJECTED", "Rejected"],
  ["REVOKED", "Revoked"],
] as const;

/** Celery sends no exception with these. */
const WITHOUT_EXCEPTION: Readonly<Partial<Record<FailureGroup["status"], string>>> = {
  REVOKED: "Revoked, without an exception",
  REJECTED: "Rejected, without an exception",
};

const SHOWS = [
  ["", "All"],
  ["new", "New today"],
  ["active", "Going on"],
  ["quiet", "Quiet"],
] as const;
type Show = (typeof SHOWS)[number][0];

const DAY_MS = 86_400_000;
/** In how many days before the range a group is looked for before it is called new. */
const LOOK_BACK_DAYS = 30;
/** A group is quiet if nothing failed for so long. */
const QUIET_MS = 30 * 60_000;

function failuresPath(): string {
  const asked = askedRange();
  asked.set("look_back", String(LOOK_BACK_DAYS));
  for (const name of ["status", "name"]) {
    const value = query.value.get(name);
    if (value !== null) asked.set(name, value);
  }
  return `failures?${asked.toString()}`;
}

/** Groups whose first failure is later are new; undefined if nobody looked back so far. */
function newSince({ to, looked_back_to }: FailureList): string | undefined {
  const since = new Date(Date.parse(to) - DAY_MS).toISOString();
  return looked_back_to !== null && looked_back_to < since ? since : undefined;
}

function isShown({ first_seen_at, last_seen_at }: FailureGroup, show: Show, list: FailureList): boolean {
  if (show === "") return true;
  if (show === "new") return first_seen_at > (newSince(list) ?? "~");
  return Date.parse(list.to) - Date.parse(last_seen_at) > QUIET_MS === (show === "quiet");
}

export function Failures(): JSX.Element {
  const [text, setText] = useState("");
  const asked = useQuery<FailureList>(failuresPath(), { everyMs: EVERY_MS });
  const status = query.value.get("status") ?? "FAILURE";
  const show = SHOWS.find(([value]) => value === query.value.get("show"))?.[0] ?? "";
  const groups = asked.data?.items ?? [];
  const wanted = text.trim().toLowerCase();
  const found = groups.filter(({ name, exception, message }) => `${name} ${exception} ${message}`.toLowerCase().includes(wanted));
  const shownAs = (value: Show): FailureGroup[] => found.filter((group) => asked.data !== undefined && isShown(group, value, asked.data));
  const shown = shownAs(show);
  const count = groups.reduce((sum, group) => sum + group.count, 0);

  return (
    <>
      <Bar
        title="Failures"
        sub={
          asked.data === undefined
            ? undefined
            : `${number(count)} ${count === 1 ? "task" : "tasks"} in ${number(groups.length)} ${groups.length === 1 ? "group" : "groups"}`
        }
      >
        <RangeTabs standard={STANDARD_RANGE} />
        <LiveButton />
      </Bar>
      <div class="body">
        <form class="find" role="search" aria-label="Failures" onSubmit={(event) => event.preventDefault()}>
          <div class="query">
            <Icon name="search" />
            <label class="sr" for="failures-search">
              Search failures
            </label>
            <input
              id="failures-search"
              type="search"
              placeholder="Task, exception or message"
              autocomplete="off"
              value={text}
              onInput={({ currentTarget }) => setText(currentTarget.value)}
            />
          </div>
          <div class="seg" role="group" aria-label="State">
            {STATUSES.map(([value, name]) => (
              <a
                key={value}
                href={href(page.value, changed({ status: value === "FAILURE" ? null : value }))}
                aria-current={value === status ? "true" : undefined}
              >
                {name}
              </a>
            ))}
          </div>
          <div class="seg" role="group" aria-label="Which groups">
            {SHOWS.map(([value, name]) => (
              <a
                key={value}
                href={href(page.value, changed({ show: value === "" ? null : value }))}
                aria-current={value === show ? "true" : undefined}
              >
                {name} {asked.data !== undefined && number(shownAs(value).length)}
              </a>
            ))}
          </div>
        </form>
        <Failing query={asked} />
        <section class="panel" aria-label="Groups" aria-busy={asked.isPrevious}>
          {asked.data === undefined ? (
            asked.error === undefined && <Loading />
          ) : shown.length > 0 ? (
            <Groups
              groups={shown}
              overTime={rangeName(query.value, STANDARD_RANGE)}
              newSince={asked.data === undefined ? undefined : newSince(asked.data)}
            />
          ) : (
            <Empty icon={groups.length > 0 ? "search" : "success"} title={groups.length > 0 ? "Nothing found" : "None in this range"}>
              <p>
                {groups.length > 0
                  ? show === ""
                    ? "No group has this text."
                    : `${number(found.length)} of other kinds.`
                  : `${STATUSES.find(([value]) => value === status)?.[1] ?? ""}: no task in this range (${rangeName(query.value, STANDARD_RANGE).toLowerCase()}).`}
              </p>
            </Empty>
          )}
          {shown.length > 0 && (
            <footer>
              <span class="muted">Grouped by task, exception and the first line of its message, with numbers and ids left out.</span>
              {asked.data?.truncated === true && <span>There are more than 20,000 in this range: only the newest are counted.</span>}
              {asked.data !== undefined && newSince(asked.data) === undefined && (
                <span>Which are new today is not known: there are too many to look back a day.</span>
              )}
            </footer>
          )}
        </section>
      </div>
    </>
  );
}

export interface GroupsProps {
  readonly groups: readonly FailureGroup[];
  /** What the bars show, such as "Last 3 h". */
  readonly overTime?: string;
  /** ISO 8601. Groups whose first failure is later are marked. */
  readonly newSince?: string | undefined;
}

export function Groups({ groups, overTime = "Over time", newSince: since }: GroupsProps): JSX.Element {
  return (
    <>
      <div class="grp-h" aria-hidden="true">
        <span />
        <span>Task and exception</span>
        <span class="cut">{overTime}</span>
        <span class="n">Tasks</span>
        <span>Last seen</span>
        <span>First seen</span>
      </div>
      <ul>
        {groups.map((group) => (
          <li key={keyOf(group)} data-row={keyOf(group)}>
            <Group group={group} isNew={since !== undefined && group.first_seen_at > since} />
          </li>
        ))}
      </ul>
    </>
  );
}

function Group({ group, isNew }: { readonly group: FailureGroup; readonly isNew: boolean }): JSX.Element {
  const opened = query.value.getAll("open");
  const isOpen = opened.some((mark) => isNamedBy(mark, group));
  const toggle = (event: Event): void => {
    event.preventDefault();
    const open = isOpen ? opened.filter((mark) => !isNamedBy(mark, group)) : [...opened, markOf(group)];
    navigate(href(page.value, changed({ open })), { replace: true });
  };
  const exception = `${group.exception ?? WITHOUT_EXCEPTION[group.status] ?? "Exception not known"}${group.message === null ? "" : `: ${group.message}`}`;
  return (
    <details class="grp" open={isOpen}>
      <summary onClick={toggle} data-open>
        <Icon name="chev" class="chev" />
        <span>
          <span class="row nowrap">
            <span class="cut">
              <TaskName name={group.name} />
            </span>
            {isNew && <span class="tag new">new today</span>}
          </span>
          <span class="cut exc" title={exception}>
            {exception}
          </span>
          <span class="lab">
            last seen <Time at={group.last_seen_at} />, first <Time at={group.first_seen_at} />
          </span>
        </span>
        <SparkBars values={group.parts} label={`${number(group.count)} tasks over time`} />
        <span class="big">{number(group.count)}</span>
        <span class="soft">
          <Time at={group.last_seen_at} />
        </span>
        <span class="muted">
          <Time at={group.first_seen_at} />
        </span>
      </summary>
      {isOpen && <Inside group={group} />}
    </details>
  );
}

function Inside({ group }: { readonly group: FailureGroup }): JSX.Element {
  const range = { range: query.value.get("range"), from: query.value.get("from"), to: query.value.get("to") };
  const list = changedList(group, range);
  const asked = new URLSearchParams(list);
  if (group.message !== null) asked.set("message", group.message);
  const details = useQuery<FailureDetails>(`failures/details?${asked.toString()}`);
  const known = details.isPrevious ? undefined : details.data;
  const last = useQuery<TaskAnswer>(`tasks/${encodeURIComponent(group.last_task_id)}`);
  const traceback = last.isPrevious ? undefined : last.data?.traceback;
  return (
    <div class="in">
      {known !== undefined && known.read > 0 && <Details group={group} details={known} />}
      <div class="cols even">
        <div class="sub-panel">
          <div class="row">
            <h3>Traceback</h3>
            <span class="muted small">
              of <IdLink id={group.last_task_id} />, <Time at={group.last_seen_at} />
            </span>
          </div>
          {last.error?.status === 404 ? (
            <p class="small soft">This task has been deleted.</p>
          ) : last.error !== undefined && traceback === undefined ? (
            <Failing query={last} />
          ) : traceback === undefined ? (
            <Loading rows={3} />
          ) : traceback === null ? (
            <p class="small soft">None is known.</p>
          ) : (
            <Traceback text={traceback} />
          )}
        </div>
        <div class="sub-panel flush">
          <h3>Latest tasks</h3>
          <table>
            <thead class="sr">
              <tr>
                <th scope="col">State</th>
                <th scope="col">Id</th>
                <th scope="col">Arguments</th>
                <th scope="col">Worker</th>
                <th scope="col">Seen</th>
              </tr>
            </thead>
            <tbody>
              {(known?.latest ?? []).map((task) => (
                <tr key={task.task_id}>
                  <td>
                    <Badge state={task.status} glyph />
                  </td>
                  <td>
                    <IdLink id={task.task_id} />
                  </td>
                  <td class="w">
                    <span class="cut args">{argumentsLine(task)}</span>
                  </td>
                  <td class="p3 qw small">
                    <span class="cut" title={task.worker ?? undefined}>
                      {task.worker}
                    </span>
                  </td>
                  <td class="n soft">
                    <Time at={task.seen_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
      <div class="row">
        <a class="btn" href={href("tasks", list)}>
          Show them in Tasks
        </a>
      </div>
    </div>
  );
}

function Details({ group, details }: { readonly group: FailureGroup; readonly details: FailureDetails }): JSX.Element {
  const { read, workers, queues, attempts, shortest, longest } = details;
  return (
    <div class="three">
      <div class="sub-panel">
        <h3>Where</h3>
        {workers.length === 0 ? (
          <p class="small soft">No worker is known.</p>
        ) : (
          <Shares
            tone="fail"
            of={workers.map(({ name: worker, count }) => ({
              key: worker,
              label: (
                <a href={href("worker", { name: worker })} title={worker}>
                  {worker}
                </a>
              ),
              share: count / read,
              text: number(count),
            }))}
          />
        )}
        {queues.length > 0 && (
          <p class="small muted">
            {queues.length === 1 ? "From queue" : "From queues"} {queues.map((queue) => queue.name).join(", ")}.
          </p>
        )}
      </div>
      <div class="sub-panel">
        <h3>At which attempt it ended</h3>
        <Shares
          tone="fail"
          of={attempts.map(({ attempt, count }) => ({
            key: String(attempt),
            label: ordinal(attempt),
            share: count / read,
            text: number(count),
          }))}
        />
      </div>
      <div class="sub-panel">
        <h3>How long they ran</h3>
        <dl class="kv">
          <dt>Last run</dt>
          <dd>
            {shortest === null || longest === null
              ? "not known"
              : duration(shortest) === duration(longest)
                ? duration(shortest)
                : `${duration(shortest)} to ${duration(longest)}`}
          </dd>
          <dt>Looked at</dt>
          <dd>{read >= group.count ? `all ${number(read)}` : `the newest ${number(read)} of ${number(group.count)}`}</dd>
        </dl>
      </div>
    </div>
  );
}

function ordinal(count: number): string {
  const ending = count % 100 > 10 && count % 100 < 14 ? undefined : ["st", "nd", "rd"][(count % 10) - 1];
  return `${count}${ending ?? "th"}`;
}

type Range = Readonly<Record<string, string | null>>;

function changedList(group: FailureGroup, range: Range): URLSearchParams {
  const given = { status: group.status, name: group.name, exception: group.exception, ...range };
  return new URLSearchParams(Object.entries(given).flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
}
