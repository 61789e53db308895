/** Filters to tick beside a list of tasks. */
import type { JSX } from "preact";
import type { Names, Status } from "../api/types.ts";
import { changed, href, navigate, query } from "../location.ts";
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

export function Facets({ names }: { readonly names: Names | undefined }): JSX.Element {
  const withWildcards = (parameter: string, known: readonly string[] = []): string[] => [...new Set([...valuesOf(parameter), ...known])];
  return (
    <aside class="facets" id="facets" popover="auto" aria-label="Filters">
      <div class="row only-narrow">
        <b>Filters</b>
        <button class="btn sm push" type="button" popovertarget="facets" popovertargetaction="hide">
          Done
        </button>
      </div>
      <Facet
        title="State"
        parameter="status"
        chosen={valuesOf("status")}
        choices={STATES.map(([value, state]) => ({ value, label: <Badge state={state} /> }))}
      />
      <Facet
        title="Task"
        parameter="name"
        chosen={valuesOf("name")}
        choices={withWildcards("name", names?.names).map((value) => shorten(value, <TaskName name={value} />))}
      />
      <Facet
        title="Queue"
        parameter="queue"
        chosen={valuesOf("queue")}
        choices={withWildcards("queue", names?.queues).map((value) => shorten(value, <>{value}</>))}
      />
      <Facet
        title="Worker"
        parameter="worker"
        chosen={valuesOf("worker")}
        choices={withWildcards("worker", names?.workers).map((value) => shorten(value, <WorkerName name={value} />))}
      />
    </aside>
  );
}

interface FacetProps {
  readonly title: string;
  readonly parameter: string;
  readonly chosen: readonly string[];
  readonly choices: readonly Choice[];
}

function Facet({ title, parameter, chosen, choices }: FacetProps): JSX.Element | null {
  if (choices.length === 0) return null;
  const set = (values: readonly string[]): void => {
    const value = parameter === "status" ? values.join(",") : values;
    navigate(href("tasks", changed({ [parameter]: values.length === 0 ? null : value })));
  };
  const toggle = (value: string): void => set(chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value]);
  const few = parameter === "status" ? choices.length : FEW;
  const draw = ({ value, label }: Choice): JSX.Element => (
    <label key={value}>
      <input type="checkbox" checked={chosen.includes(value)} onChange={() => toggle(value)} />
      <span class="cut">{label}</span>
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
          <summary class="more">{choices.length - few} more</summary>
          {choices.slice(few).map(draw)}
        </details>
      )}
    </fieldset>
  );
}
