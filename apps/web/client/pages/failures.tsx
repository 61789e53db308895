/** Failures in groups: of one task, with one kind of exception and the same first line. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import type { FailureGroup, FailureList, TaskAnswer, TaskPageAnswer } from "../api/types.ts";
import { changed, href, page, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, isLive, rangeName } from "../parts/bar.tsx";
import { Icon } from "../parts/icon.tsx";
import { Traceback } from "../parts/python.tsx";
import { Empty, Failing, Loading } from "../parts/say.tsx";
import { Badge, IdLink, TaskName, argumentsLine } from "../parts/task.tsx";
import { number } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";

const STANDARD_RANGE = "24h";
const EVERY_MS = 10_000;
const STATUSES = [
  ["FAILURE", "Failed"],
  ["RETRY", "Retrying"],
  ["REJECTED", "Rejected"],
  ["REVOKED", "Revoked"],
] as const;

export function Failures(): JSX.Element {
  const [text, setText] = useState("");
  const asked = useQuery<FailureList>(`failures?${query.value.toString()}`, { everyMs: isLive.value ? EVERY_MS : undefined });
  const status = query.value.get("status") ?? "FAILURE";
  const groups = asked.data?.items ?? [];
  const wanted = text.trim().toLowerCase();
  const shown = groups.filter(({ name, exception, message }) => `${name} ${exception} ${message}`.toLowerCase().includes(wanted));
  const count = groups.reduce((sum, group) => sum + group.count, 0);

  return (
    <>
      <Bar title="Failures" sub={asked.data === undefined ? undefined : `${number(count)} tasks in ${number(groups.length)} groups`}>
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
          <div class="seg" role="group" aria-label="Show">
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
        </form>
        <Failing query={asked} />
        <section class="panel" aria-label="Groups" aria-busy={asked.isPrevious}>
          {asked.data === undefined ? (
            asked.error === undefined && <Loading />
          ) : shown.length > 0 ? (
            <Groups groups={shown} />
          ) : (
            <Empty icon={groups.length > 0 ? "search" : "success"} title={groups.length > 0 ? "Nothing found" : "None in this range"}>
              <p>
                {groups.length > 0
                  ? "No group has this text."
                  : `${STATUSES.find(([value]) => value === status)?.[1] ?? ""}: no task in this range (${rangeName(query.value, STANDARD_RANGE).toLowerCase()}).`}
              </p>
            </Empty>
          )}
          {asked.data?.truncated === true && (
            <footer>
              <span>There are more than 20,000 in this range: only the newest are counted.</span>
            </footer>
          )}
        </section>
      </div>
    </>
  );
}

export function Groups({ groups }: { readonly groups: readonly FailureGroup[] }): JSX.Element {
  return (
    <>
      <div class="grp-h" aria-hidden="true">
        <span />
        <span>Task and exception</span>
        <span class="n">Tasks</span>
        <span>Last seen</span>
        <span>First seen</span>
      </div>
      <ul>
        {groups.map((group) => (
          <li key={keyOf(group)} data-row={keyOf(group)}>
            <Group group={group} />
          </li>
        ))}
      </ul>
    </>
  );
}

function keyOf({ name, status, exception, message }: FailureGroup): string {
  return [name, status, exception, message].join("\u0000");
}

/** Stays open while new numbers come. */
const opened = signal<ReadonlySet<string>>(new Set());

function Group({ group }: { readonly group: FailureGroup }): JSX.Element {
  const key = keyOf(group);
  const isOpen = opened.value.has(key);
  const onToggle = ({ currentTarget }: { readonly currentTarget: HTMLDetailsElement }): void => {
    if (currentTarget.open !== opened.value.has(key))
      opened.value = new Set(currentTarget.open ? [...opened.value, key] : [...opened.value].filter((one) => one !== key));
  };
  const exception = `${group.exception ?? "Exception not known"}${group.message === null ? "" : `: ${group.message}`}`;
  return (
    <details class="grp" open={isOpen} onToggle={onToggle}>
      <summary data-open>
        <Icon name="chev" class="chev" />
        <span>
          <span class="cut">
            <TaskName name={group.name} />
          </span>
          <span class="cut exc" title={exception}>
            {exception}
          </span>
          <span class="lab">
            last seen <Time at={group.last_seen_at} />, first <Time at={group.first_seen_at} />
          </span>
        </span>
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

const LATEST = 5;

function Inside({ group }: { readonly group: FailureGroup }): JSX.Element {
  const range = { range: query.value.get("range"), from: query.value.get("from"), to: query.value.get("to") };
  const list = changedList(group, range);
  const latest = useQuery<TaskPageAnswer>(`tasks?${new URLSearchParams([...list, ["limit", String(LATEST)]]).toString()}`);
  const last = useQuery<TaskAnswer>(`tasks/${encodeURIComponent(group.last_task_id)}`);
  const traceback = last.isPrevious ? undefined : last.data?.traceback;
  return (
    <div class="in">
      <div class="cols even">
        <div class="sub-panel">
          <div class="row">
            <h3>Traceback</h3>
            <span class="muted small">
              of the latest, <IdLink id={group.last_task_id} />
            </span>
          </div>
          {traceback === undefined ? (
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
              {(latest.isPrevious ? [] : (latest.data?.items ?? [])).map((task) => (
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
                  <td class="p3 nowrap small">{task.worker}</td>
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

function changedList(group: FailureGroup, range: Readonly<Record<string, string | null>>): URLSearchParams {
  const given = { status: group.status, name: group.name, exception: group.exception, ...range };
  return new URLSearchParams(Object.entries(given).flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
}
