/** Tasks: search, filters, the list and what one can do with its rows. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { isLive, useLive } from "../api/live.ts";
import { useQuery } from "../api/query.ts";
import { PAGE_SIZE, useTaskList, type TaskList } from "../api/task-list.ts";
import type { Names, TaskItem } from "../api/types.ts";
import { changed, href, query } from "../location.ts";
import { Bar, LiveButton, RangeMenu, rangeName } from "../parts/bar.tsx";
import { Brush } from "../parts/brush.tsx";
import { Action, WhyOff } from "../parts/control.tsx";
import { Facets, countedFilters, hasOtherFilters } from "../parts/facets.tsx";
import { Icon } from "../parts/icon.tsx";
import { NewRows } from "../parts/new-rows.tsx";
import { Copy, Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { SearchBar } from "../parts/search-bar.tsx";
import { filtersOf } from "../parts/search.ts";
import { TaskTable } from "../parts/task-table.tsx";
import { number, shortTime, zone } from "../parts/format.ts";
import { Views } from "../parts/views.tsx";

const STANDARD_RANGE = "24h";

export function Tasks(): JSX.Element {
  const list = useTaskList(query.value);
  const { data: names } = useQuery<Names>("names");
  const isNewest = !query.value.has("cursor") && !query.value.has("to");
  const live = useLive(isLive.value && isNewest ? `live?${withLimit(query.value)}` : undefined);
  const rows = list.items.map((task) => newer(task, live.tasks.get(task.task_id)));
  const waiting = countNew(list.items, live.tasks);
  const liveQuery = { ...list.first, error: live.problem, at: Math.max(list.first.at, live.at), ask: live.again };
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const filters = filtersOf(query.value).length;

  const select = (id: string | undefined): void => {
    const ids = rows.map(({ task_id }) => task_id);
    if (id === undefined) setSelected(ids.every((one) => selected.has(one)) ? new Set() : new Set(ids));
    else setSelected(new Set(selected.has(id) ? [...selected].filter((one) => one !== id) : [...selected, id]));
  };

  return (
    <>
      <Bar title="Tasks" sub={`Newest first, times in ${zone()}`}>
        <RangeMenu standard={STANDARD_RANGE} />
        <LiveButton waiting={waiting} />
      </Bar>
      <div class="body">
        <form class="find" role="search" aria-label="Tasks" onSubmit={(event) => event.preventDefault()}>
          <SearchBar />
          <button class="btn only-narrow" type="button" popovertarget="facets">
            <Icon name="filter" />
            Filters{filters > 0 && ` (${filters})`}
          </button>
          <Views />
        </form>
        <div class="list">
          <Facets names={names} isReady={list.first.data !== undefined} />
          <div class="stack">
            <Failing query={list.first.error === undefined ? liveQuery : list.first} />
            <section class="panel results" aria-label="Results" aria-busy={list.first.isPrevious}>
              <Times list={list} />
              <NewRows count={waiting} noun={["task", "tasks"]} onShow={list.first.ask} />
              {list.first.data === undefined ? (
                list.first.error === undefined && <Loading rows={10} />
              ) : rows.length > 0 ? (
                <TaskTable tasks={rows} selected={selected} onSelect={select} />
              ) : (
                <NoTasks list={list} isFiltered={filters > 0} />
              )}
              {list.first.data !== undefined && <Foot list={list} />}
            </section>
            {selected.size > 0 && (
              <Selection
                ids={[...selected]}
                all={rows.length}
                onAll={() => setSelected(new Set(rows.map(({ task_id }) => task_id)))}
                onClear={() => setSelected(new Set())}
              />
            )}
          </div>
        </div>
      </div>
    </>
  );
}

/** The range as counts over time. They must not delay the list. */
function Times({ list }: { readonly list: TaskList }): JSX.Element {
  const isPartial = list.next !== null && list.items.length < PAGE_SIZE && list.searchedTo !== null;
  return (
    <Brush
      standard={STANDARD_RANGE}
      filters={list.first.data === undefined ? undefined : countedFilters()}
      hint={hasOtherFilters() ? "Bars ignore some of the filters. Drag to choose a time range" : undefined}
      searchedTo={isPartial ? list.searchedTo : undefined}
    />
  );
}

function withLimit(filters: URLSearchParams): string {
  const result = new URLSearchParams(filters);
  result.set("limit", String(PAGE_SIZE));
  return result.toString();
}

function newer(task: TaskItem, other: TaskItem | undefined): TaskItem {
  return other !== undefined && other.last_event_at >= task.last_event_at ? other : task;
}

function countNew(items: readonly TaskItem[], live: ReadonlyMap<string, TaskItem>): number {
  const known = new Set(items.map(({ task_id }) => task_id));
  const newest = items[0]?.seen_at ?? "";
  return [...live.values()].filter(({ task_id, seen_at }) => !known.has(task_id) && seen_at >= newest).length;
}

function Foot({ list: { items, next, searchedTo, isSearching, searchFurther } }: { readonly list: TaskList }): JSX.Element {
  const isLater = query.value.has("cursor");
  const isFull = items.length >= PAGE_SIZE;
  const exported = changed({});
  return (
    <footer>
      <span>
        <b class="num">{number(items.length)}</b> {next === null ? (isLater ? "to the end of the range." : "in all.") : "shown."}
        {next !== null && searchedTo !== null && <> Searched back to {shortTime(new Date(searchedTo))}.</>}
        {isSearching && <span role="status"> Searching further back…</span>}
      </span>
      {next !== null && !isFull && !isSearching && (
        <button class="link" type="button" onClick={searchFurther}>
          Search further back
        </button>
      )}
      <span class="row small">
        Export{" "}
        <a class="link" href={`./api/v1/tasks.csv?${exported.toString()}`} download>
          CSV
        </a>
        <a class="link" href={`./api/v1/tasks.ndjson?${exported.toString()}`} download>
          JSON
        </a>
      </span>
      <nav class="row push" aria-label="Pages of results">
        {isLater && (
          <a class="btn sm" href={href("tasks", exported)}>
            Newest
          </a>
        )}
        {next !== null && isFull && (
          <a class="btn sm" href={href("tasks", changed({ cursor: next }))} onClick={() => window.scrollTo(0, 0)}>
            Older
            <Icon name="chev" />
          </a>
        )}
      </nav>
    </footer>
  );
}

function NoTasks({ list, isFiltered }: { readonly list: TaskList; readonly isFiltered: boolean }): JSX.Element {
  const range = rangeName(query.value, STANDARD_RANGE).toLowerCase();
  const longer = href("tasks", changed({ range: "all", from: null, to: null }));
  if (list.next !== null) {
    return (
      <Empty icon="search" title="Nothing found, so far">
        <p>
          {list.searchedTo === null ? "The search goes on." : `Nothing matches since ${shortTime(new Date(list.searchedTo))}.`} Older tasks
          have not been looked at.
        </p>
      </Empty>
    );
  }
  if (isFiltered) {
    // Such as `stat:failure`.
    const unknownFilter = /(?:^| )([a-z_]+:)/.exec(query.value.get("text") ?? "")?.[1];
    return (
      <Empty icon="search" title="Nothing found">
        <p>No task matches these filters in this range: {range}.</p>
        {unknownFilter !== undefined && (
          <p>
            <code>{unknownFilter}</code> is no filter, so it was looked for as text.
          </p>
        )}
        <div class="row">
          <a class="btn" href={longer}>
            Search all time
          </a>
          <a class="btn ghost" href={href("tasks")}>
            Remove the filters
          </a>
        </div>
      </Empty>
    );
  }
  return (
    <Empty icon="queues" title="No tasks in this range">
      <p>
        Nothing was seen in this range: {range}. If tasks ran, their workers send no events: start them with{" "}
        <Setting then=",">celery worker -E</Setting> or set <Setting>worker_send_task_events = True</Setting> in Celery or{" "}
        <Setting>CELERY_ENABLE_EVENTS=true</Setting> for the monitor. Then this page fills by itself.
      </p>
      <a class="btn" href={longer}>
        Show all time
      </a>
    </Empty>
  );
}

interface SelectionProps {
  readonly ids: readonly string[];
  /** How many rows there are. */
  readonly all: number;
  readonly onAll: () => void;
  readonly onClear: () => void;
}

function Selection({ ids, all, onAll, onClear }: SelectionProps): JSX.Element {
  return (
    <div class="bulk" role="region" aria-label="Selection">
      <b>{ids.length} selected</b>
      {ids.length < all && (
        <button class="link" type="button" onClick={onAll}>
          Select all {number(all)} shown
        </button>
      )}
      <i />
      <Copy text={ids.join("\n")} label="Copy ids" word="Copy ids" />
      <Action icon="revoked" name="Revoke…" small />
      <Action icon="retry" name="Send again…" small />
      <span class="sr">
        <WhyOff />
      </span>
      <button class="btn ghost sm icon" type="button" aria-label="Clear the selection" onClick={onClear}>
        <Icon name="x" />
      </button>
    </div>
  );
}
