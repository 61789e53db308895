/** Filters to tick beside a list of tasks. */
import type { JSX } from "preact";
import { useQuery } from "../api/query.ts";
import { RANGE, askedRange } from "../api/statistics.ts";
import type { Names, Statistics, Status } from "../api/types.ts";
import { changed, href, navigate, query } from "../location.ts";
import { compact } from "./format.ts";
import { useIsPainted } from "./painted.ts";
import { Badge, TaskName, WorkerName, type State } from "./task.tsx";

const STATES: readonly (readonly [Status, State])[] = [
  ["FAILURE", "FAILURE"],
  ["RETRY", "RETRY"],
  ["STARTED", "STARTED"],
  ["RECEIVED", "RECEIVED"],
  ["PENDING", "SENT"],
  ["SUCCESS", "SUCCESS"],
  ["REVOKED", "REVOKED"],
  ["REJECTED", "REJECTED"],
];
const FEW = 6;

/** Counts change slowly in comparison with a range of a day. */
const COUNTS_EVERY_MS = 10_000;
/** Parameters by which tasks are counted. */
const COUNTED = ["status", "name", "queue"] as const;

type Counted = (typeof COUNTED)[number];

/** How many tasks each choice would show, with the other filters by which tasks are counted. */
function useCounts(by: Counted, isReady: boolean): ReadonlyMap<string, number> | undefined {
  const asked = askedRange();
  asked.set("by", by);
  for (const [parameter, value] of countedFilters()) if (parameter !== by) asked.append(parameter, value);
  const { data, isPrevious } = useQuery<Statistics>(isReady ? `statistics?${asked.toString()}` : undefined, {
    everyMs: COUNTS_EVERY_MS,
  });
  if (data === undefined || isPrevious) return undefined;
  return new Map(data.items.map((item) => [item[by] ?? "", item.count]));
}

/** Filters by which tasks are counted. Wildcards are not counted. */
export function countedFilters(): URLSearchParams {
  const all = COUNTED.map((parameter) => [parameter, valuesOf(parameter)] as const).filter(
    ([, values]) => !values.some((value) => value.includes("*")),
  );
  return new URLSearchParams(all.flatMap(([parameter, values]) => values.map((value) => [parameter, value])));
}

/** Whether the list has filters that the counts leave out. */
export function hasOtherFilters(): boolean {
  const known: readonly string[] = [...COUNTED, ...RANGE, "cursor"];
  return [...query.value].some(([name, value]) => !known.includes(name) || (name !== "status" && value.includes("*")));
}

interface Choice {
  readonly value: string;
  readonly label: JSX.Element;
}

function valuesOf(parameter: string): string[] {
  return parameter === "status" ? (query.value.get("status") ?? "").split(",").filter((one) => one !== "") : query.value.getAll(parameter);
}

function shorten(value: string, label: JSX.Element): Choice {
  return { value, label: <span title={value}>{label}</span> };
}

export interface FacetsProps {
  readonly names: Names | undefined;
  /** Whether the list is there: counts may take longer, and must not delay it. */
  readonly isReady: boolean;
}

/** They are drawn when the list beside them was painted. */
export function Facets(props: FacetsProps): JSX.Element {
  return (
    <aside class="facets" id="facets" popover="auto" aria-label="Filters">
      {useIsPainted() && <All {...props} />}
    </aside>
  );
}

function All({ names, isReady }: FacetsProps): JSX.Element {
  const withWildcards = (parameter: string, known: readonly string[] = []): string[] => [...new Set([...valuesOf(parameter), ...known])];
  return (
    <>
      <div class="row only-narrow">
        <b>Filters</b>
        <button class="btn sm push" type="button" popovertarget="facets" popovertargetaction="hide">
          Done
        </button>
      </div>
      {hasOtherFilters() && <p class="small muted">Only the range, state, task and queue are counted.</p>}
      <Facet
        title="State"
        parameter="status"
        counts={useCounts("status", isReady)}
        chosen={valuesOf("status")}
        choices={STATES.map(([value, state]) => ({ value, label: <Badge state={state} /> }))}
      />
      <Facet
        title="Worker is gone"
        parameter="lost"
        chosen={valuesOf("lost")}
        choices={[{ value: "true", label: <Badge state="LOST" /> }]}
      />
      <Facet
        title="Task"
        parameter="name"
        counts={useCounts("name", isReady)}
        chosen={valuesOf("name")}
        choices={withWildcards("name", names?.names).map((value) => shorten(value, <TaskName name={value} />))}
      />
      <Facet
        title="Queue"
        parameter="queue"
        counts={useCounts("queue", isReady)}
        chosen={valuesOf("queue")}
        choices={withWildcards("queue", names?.queues).map((value) => shorten(value, <>{value}</>))}
      />
      <Facet
        title="Worker"
        parameter="worker"
        chosen={valuesOf("worker")}
        choices={withWildcards("worker", names?.workers).map((value) => shorten(value, <WorkerName name={value} />))}
      />
    </>
  );
}

interface FacetProps {
  readonly title: string;
  readonly parameter: string;
  readonly chosen: readonly string[];
  readonly choices: readonly Choice[];
  readonly counts?: ReadonlyMap<string, number> | undefined;
}

function Facet({ title, parameter, chosen, choices, counts }: FacetProps): JSX.Element | null {
  if (choices.length === 0) return null;
  const set = (values: readonly string[]): void => {
    const value = parameter === "status" ? values.join(",") : values;
    navigate(href("tasks", changed({ [parameter]: values.length === 0 ? null : value })));
  };
  const toggle = (value: string): void => set(chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value]);
  const few = parameter === "status" ? choices.length : FEW;
  const draw = ({ value, label }: Choice): JSX.Element => (
    <label key={value} class={counts?.has(value) === false ? "zero" : undefined}>
      <input type="checkbox" checked={chosen.includes(value)} onChange={() => toggle(value)} />
      <span class="cut">{label}</span>
      {counts !== undefined && <span class="count">{compact(counts.get(value) ?? 0)}</span>}
    </label>
  );
  return (
    <fieldset class="facet">
      <legend class="sr">{title}</legend>
      <h2>
        {title}
        {chosen.length > 0 && (
          <button class="link" type="button" onClick={() => set([])}>
            Clear<span class="sr"> {title}</span>
          </button>
        )}
      </h2>
      {choices.slice(0, few).map(draw)}
      {choices.length > few && (
        <details>
          <summary class="more">
            <span class="closed">{choices.length - few} more</span>
            <span class="opened">Fewer</span>
          </summary>
          {choices.slice(few).map(draw)}
        </details>
      )}
    </fieldset>
  );
}
