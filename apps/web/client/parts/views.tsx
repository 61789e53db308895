/** Searches that a person keeps, in this browser. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { href, query } from "../location.ts";
import { Dialog, closeDialog } from "./dialog.tsx";
import { Icon } from "./icon.tsx";

interface View {
  readonly name: string;
  readonly query: string;
}

const KEY = "views";

function read(): readonly View[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? (kept as View[]) : [];
  } catch {
    return [];
  }
}

const views = signal(read());

function keep(next: readonly View[]): void {
  views.value = next;
  try {
    localStorage.setItem(KEY, JSON.stringify(next));
  } catch {
    // Storage may be switched off: then they last until the page is left.
  }
}

function save(event: SubmitEvent): void {
  event.preventDefault();
  const name = new FormData(event.currentTarget as HTMLFormElement).get("name");
  if (typeof name !== "string" || name.trim() === "") return;
  const kept = new URLSearchParams(query.value);
  kept.delete("cursor");
  keep([...views.value.filter((view) => view.name !== name), { name, query: kept.toString() }]);
  closeDialog("views");
}

export function Views(): JSX.Element {
  return (
    <>
      <button class="btn" type="button" popovertarget="views" title="Key: v">
        Views
        <Icon name="down" />
      </button>
      <Dialog id="views" label="Saved views">
        {() => <Saved />}
      </Dialog>
    </>
  );
}

function Saved(): JSX.Element {
  return (
    <>
      <h2>Saved views</h2>
      {views.value.length === 0 ? (
        <p>A view is a search with a name. It stays in this browser; to share it, share its address.</p>
      ) : (
        <ul class="stack">
          {views.value.map((view) => (
            <li class="row nowrap" key={view.name}>
              <a class="link cut" href={href("tasks", new URLSearchParams(view.query))} onClick={() => closeDialog("views")}>
                {view.name}
              </a>
              <button
                class="btn ghost sm icon push"
                type="button"
                aria-label={`Delete the view ${view.name}`}
                onClick={() => keep(views.value.filter((one) => one !== view))}
              >
                <Icon name="x" />
              </button>
            </li>
          ))}
        </ul>
      )}
      <form class="row" onSubmit={save}>
        <label class="sr" for="view-name">
          Name of the view
        </label>
        <input class="field" id="view-name" name="name" maxLength={100} placeholder="Name of this search" autocomplete="off" required />
        <button class="btn primary" type="submit">
          Save view
        </button>
      </form>
    </>
  );
}
