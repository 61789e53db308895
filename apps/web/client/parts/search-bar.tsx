/** The search bar: chips of the filters, a field with suggestions, and where a mistake is. */
import type { JSX } from "preact";
import { useId, useState } from "preact/hooks";
import { useQuery } from "../api/query.ts";
import type { Names } from "../api/types.ts";
import { href, navigate, page, query } from "../location.ts";
import { Icon } from "./icon.tsx";
import { accept, filtersOf, parseSearch, suggestionsFor, withFilters, withoutFilter, type Problem } from "./search.ts";

const NOTHING: Names = { names: [], queues: [], workers: [] };

export function SearchBar(): JSX.Element {
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState<Problem>();
  const [isOpen, setOpen] = useState(false);
  const [chosen, setChosen] = useState(-1);
  const { data: known = NOTHING } = useQuery<Names>("names");
  const id = useId();
  const filters = filtersOf(query.value);
  const suggestions = isOpen ? suggestionsFor(typed, known) : [];
  const option = (index: number): string => `${id}-${index}`;

  const type = (text: string): void => {
    setTyped(text);
    setOpen(true);
    setChosen(-1);
    setProblem(undefined);
  };
  const search = (text: string): void => {
    const parsed = parseSearch(text);
    setProblem(parsed.problem);
    setOpen(false);
    if (parsed.problem !== undefined) return;
    setTyped("");
    navigate(href(page.value, withFilters(query.value, parsed.filters)));
  };
  const take = (index: number): void => {
    const suggestion = suggestions[index];
    if (suggestion === undefined) return search(typed);
    const text = accept(typed, suggestion);
    if (/[:.]$/.test(text)) type(text);
    else search(text);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      if (suggestions.length === 0) return;
      event.preventDefault();
      const step = key === "ArrowDown" ? 1 : -1;
      setChosen(((chosen + 1 + step + suggestions.length + 1) % (suggestions.length + 1)) - 1);
    } else if (key === "Enter") {
      event.preventDefault();
      take(chosen);
    } else if (key === "Tab" && chosen >= 0) {
      event.preventDefault();
      take(chosen);
    } else if (key === "Escape") {
      if (isOpen && suggestions.length > 0) setOpen(false);
      else (event.currentTarget as HTMLElement).blur();
    } else if (key === "Backspace" && typed === "") {
      const last = filters.at(-1);
      if (last !== undefined) navigate(href(page.value, withoutFilter(query.value, last)));
    }
  };

  return (
    <div class="searching">
      <div class="query">
        <Icon name="search" />
        {filters.map((filter) => {
          const label = `${filter.qualifier}:${filter.value}`;
          return (
            <span class="chip" key={label}>
              <span title={label}>
                <i>{filter.qualifier}:</i>
                {filter.value}
              </span>
              <button
                type="button"
                aria-label={`Remove ${label}`}
                onClick={() => navigate(href(page.value, withoutFilter(query.value, filter)))}
              >
                <Icon name="x" />
              </button>
            </span>
          );
        })}
        <label class="sr" for={id}>
          Search tasks
        </label>
        <input
          id={id}
          class="searched"
          type="text"
          role="combobox"
          placeholder={
            filters.length === 0 ? "state:failure  name:shop.*  kwargs.customer_id:1234  or any text" : "Add a filter or any text"
          }
          autocomplete="off"
          spellcheck={false}
          value={typed}
          aria-expanded={suggestions.length > 0}
          aria-controls={`${id}-list`}
          aria-activedescendant={chosen >= 0 && chosen < suggestions.length ? option(chosen) : undefined}
          aria-invalid={problem === undefined ? undefined : true}
          aria-describedby={problem === undefined ? undefined : `${id}-problem`}
          onInput={({ currentTarget }) => type(currentTarget.value)}
          onKeyDown={onKeyDown}
          onBlur={() => setOpen(false)}
        />
        <kbd class="p3" aria-hidden="true">
          /
        </kbd>
      </div>
      <ul class="sugg" id={`${id}-list`} role="listbox" aria-label="Suggestions" hidden={suggestions.length === 0}>
        {suggestions.map(({ text, hint }, index) => (
          <li
            key={text}
            id={option(index)}
            role="option"
            aria-selected={index === chosen}
            onPointerDown={(event) => {
              event.preventDefault();
              take(index);
            }}
          >
            <span class="mono cut">{text}</span>
            <span class="muted">{hint}</span>
          </li>
        ))}
      </ul>
      {problem !== undefined && (
        <p class="small bad" id={`${id}-problem`} role="alert">
          <Icon name="warn" class="inl" /> {problem.message}
        </p>
      )}
    </div>
  );
}
