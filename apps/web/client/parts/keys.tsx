/** The keyboard: what each key does, and the list of them. */
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { isLive } from "../api/live.ts";
import { pageHref } from "../api/statistics.ts";
import { href, navigate } from "../location.ts";
import { Dialog } from "./dialog.tsx";

const GOES_TO: Readonly<Record<string, string>> = {
  o: "",
  t: "tasks",
  l: "live",
  f: "failures",
  y: "types",
  w: "workers",
  q: "queues",
  a: "about",
};
const SEQUENCE_MS = 1_500;

function isTyping({ target }: KeyboardEvent): boolean {
  return target instanceof HTMLElement && target.closest("input:not([type=checkbox]), textarea, select") !== null;
}

/** Rows that j and k move through. */
const ROWS = "[data-row]";
const SEARCH = "main .searched, main input[type=search]";

function focusSearch(): boolean {
  const field = document.querySelector<HTMLElement>(SEARCH);
  field?.focus();
  return field !== null;
}

function step(by: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>(ROWS)];
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  row?.querySelector<HTMLElement>("[data-open]")?.focus();
  row?.scrollIntoView({ block: "nearest" });
}

function press(selector: string): void {
  document.activeElement?.closest(ROWS)?.querySelector<HTMLElement>(selector)?.click();
}

const DOES: Readonly<Record<string, () => void>> = {
  j: () => step(1),
  k: () => step(-1),
  o: () => press("[data-open]"),
  x: () => press("[data-select]"),
  p: () => document.querySelector<HTMLElement>("[data-key=p]")?.click(),
  r: () => document.querySelector<HTMLElement>("[data-key=r]")?.click(),
  l: () => (isLive.value = !isLive.value),
  t: () => {
    if (document.getElementById("range")?.togglePopover() === undefined) document.querySelector<HTMLElement>("[data-range]")?.focus();
  },
  v: () => document.getElementById("views")?.togglePopover(),
  "?": () => document.getElementById("keys")?.togglePopover(),
  "/": () => {
    // At once where there is a field, or the first letters of somebody who types fast go elsewhere.
    if (focusSearch()) return;
    navigate(href("tasks"));
    requestAnimationFrame(focusSearch);
  },
};

export function useKeys(): void {
  useEffect(() => {
    let goesUntil = 0;
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event)) return;
      const { key } = event;
      const to = Date.now() < goesUntil ? GOES_TO[key] : undefined;
      goesUntil = key === "g" ? Date.now() + SEQUENCE_MS : 0;
      if (to !== undefined) {
        event.preventDefault();
        navigate(pageHref(to));
      } else if (DOES[key] !== undefined) {
        event.preventDefault();
        DOES[key]();
      }
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
}

const HELP: readonly (readonly [readonly string[], string])[] = [
  [["/"], "Search"],
  [["j", "k"], "Next, previous row"],
  [["o", "Enter"], "Open the row"],
  [["x"], "Select the row"],
  [["t"], "Choose the time range"],
  [["v"], "Saved views of Tasks"],
  [["g", "o"], "Go to Overview"],
  [["g", "t"], "Go to Tasks"],
  [["g", "l"], "Go to Live"],
  [["g", "f"], "Go to Failures"],
  [["g", "y"], "Go to Task types"],
  [["g", "w"], "Go to Workers"],
  [["g", "q"], "Go to Queues"],
  [["g", "a"], "Go to About"],
  [["p", "r"], "On a task: its parent, its root"],
  [["l"], "Pause or resume live updates"],
  [["?"], "This list"],
];

export function KeyHelp(): JSX.Element {
  return (
    <Dialog id="keys" label="Keyboard">
      {() => (
        <>
          <h2>Keyboard</h2>
          <div class="keys">
            {HELP.map(([keys, does]) => (
              <>
                <span>
                  {keys.map((key) => (
                    <>
                      <kbd>{key}</kbd>{" "}
                    </>
                  ))}
                </span>
                <span>{does}</span>
              </>
            ))}
          </div>
          <footer>
            <button class="btn" type="button" popovertarget="keys" popovertargetaction="hide">
              Close
            </button>
          </footer>
        </>
      )}
    </Dialog>
  );
}
