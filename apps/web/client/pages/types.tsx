/** Task types: every name of a task, and how its newest task went. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import type { TaskType } from "../api/types.ts";
import { href } from "../location.ts";
import { Bar, LiveButton, isLive } from "../parts/bar.tsx";
import { Icon } from "../parts/icon.tsx";
import { Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { Badge, TaskName, taskHref } from "../parts/task.tsx";
import { Time, number } from "../parts/time.tsx";

const EVERY_MS = 10_000;

export function Types(): JSX.Element {
  const [text, setText] = useState("");
  const asked = useQuery<{ readonly items: readonly TaskType[] }>("task-types", { everyMs: isLive.value ? EVERY_MS : undefined });
  const all = asked.data?.items ?? [];
  const shown = all.filter(({ name }) => name.toLowerCase().includes(text.trim().toLowerCase()));
  return (
    <>
      <Bar title="Task types" sub={asked.data === undefined ? undefined : `${number(all.length)} names`}>
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
            <Table types={shown} />
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

function Table({ types }: { readonly types: readonly TaskType[] }): JSX.Element {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Task</th>
          <th scope="col" class="p3">
            Newest
          </th>
          <th scope="col" class="n">
            Last seen
          </th>
          <th scope="col" class="n">
            Last failed
          </th>
          <th scope="col" class="n p2">
            Show
          </th>
        </tr>
      </thead>
      <tbody>
        {types.map((type) => (
          <tr key={type.name} data-row={type.name}>
            <th scope="row" class="w">
              <a class="cut" href={href("tasks", { name: type.name })} title={type.name} data-open>
                <TaskName name={type.name} />
              </a>
            </th>
            <td class="p3">
              <a href={taskHref(type.last_task_id)}>
                <Badge state={type.last_status} />
              </a>
            </td>
            <td class="n soft">
              <Time at={type.last_seen_at} />
            </td>
            <td class="n">
              {type.last_failure_id === null || type.last_failure_at === null ? (
                <span class="nil">never</span>
              ) : (
                <a class="link" href={taskHref(type.last_failure_id)}>
                  <Time at={type.last_failure_at} />
                </a>
              )}
            </td>
            <td class="n p2 small">
              <a class="link" href={href("failures", { name: type.name })}>
                Failures<span class="sr"> of {type.name}</span>
              </a>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
