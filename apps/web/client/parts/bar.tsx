/** The line at the top of a page, with its range of time and whether it updates by itself. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect } from "preact/hooks";
import { isAnswering } from "../api/ask.ts";
import { isLive } from "../api/live.ts";
import { changed, href, navigate, page, query } from "../location.ts";
import { Dialog, closeDialog } from "./dialog.tsx";
import { Icon } from "./icon.tsx";
import { shortTime } from "./format.ts";

export interface BarProps {
  readonly title: string;
  /** Pages above this one. */
  readonly above?: { readonly page: string; readonly title: string };
  readonly sub?: ComponentChildren;
  readonly children?: ComponentChildren;
}

export function Bar({ title, above, sub, children }: BarProps): JSX.Element {
  useEffect(() => {
    document.title = `${title} · Celery`;
  }, [title]);
  return (
    <div class="bar">
      {above === undefined ? (
        <h1>{title}</h1>
      ) : (
        <span class="crumb">
          <a href={href(above.page)}>{above.title}</a> /
        </span>
      )}
      {sub !== undefined && <span class={above === undefined ? "sub p2" : "sub"}>{sub}</span>}
      {children !== undefined && <div class="tools">{children}</div>}
    </div>
  );
}

export function LiveButton({ waiting = 0 }: { readonly waiting?: number }): JSX.Element {
  return (
    <button
      class="btn live"
      type="button"
      aria-pressed={isLive.value}
      title="Pauses while this tab is hidden. Key: l"
      onClick={() => (isLive.value = !isLive.value)}
    >
      <span class={`dot ${!isLive.value ? "off" : isAnswering.value ? "" : "bad"}`} />
      {!isLive.value ? "Paused" : isAnswering.value ? "Live" : "No answer"}
      {waiting > 0 && <b>{waiting} new</b>}
    </button>
  );
}

const RANGES: readonly (readonly [string, string])[] = [
  ["15m", "15 min"],
  ["1h", "1 h"],
  ["3h", "3 h"],
  ["24h", "24 h"],
  ["7d", "7 d"],
];

/** Ranges side by side. */
export function RangeTabs({ standard, longest = "7d" }: { readonly standard: string; readonly longest?: string }): JSX.Element {
  const present = query.value.has("from") ? "" : (query.value.get("range") ?? standard);
  const shown = RANGES.slice(0, RANGES.findIndex(([range]) => range === longest) + 1);
  return (
    <div class="seg" role="group" aria-label="Time range">
      {shown.map(([range, name]) => (
        <a
          key={range}
          href={href(page.value, changed({ range: range === standard ? null : range, from: null, to: null }))}
          aria-current={range === present ? "true" : undefined}
          data-range={range === present ? "" : undefined}
        >
          {name}
        </a>
      ))}
      {present === "" && (
        <a href={href(page.value, query.value)} aria-current="true" data-range>
          {rangeName(query.value, standard)}
        </a>
      )}
    </div>
  );
}

export function rangeName(of: URLSearchParams, standard: string): string {
  const from = of.get("from");
  const to = of.get("to");
  if (from !== null) return `${shortTime(new Date(from))} to ${to === null ? "now" : shortTime(new Date(to))}`;
  const range = of.get("range") ?? standard;
  if (range === "all") return "All time";
  const [, count, unit = ""] = /^(\d+)([mhd])$/.exec(range) ?? [];
  return count === undefined ? range : `Last ${count} ${{ m: "min", h: "h", d: "d" }[unit] ?? unit}`;
}

/** A time as a field for local times has it, and back. */
function toLocal(at: Date): string {
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function applyRange(event: SubmitEvent): void {
  event.preventDefault();
  const form = new FormData(event.currentTarget as HTMLFormElement);
  const read = (name: string): string | null => {
    const value = form.get(name);
    return typeof value === "string" && value !== "" ? new Date(value).toISOString() : null;
  };
  closeDialog("range");
  const [from, to] = [read("from"), read("to")];
  const isReversed = from !== null && to !== null && from > to;
  navigate(href(page.value, changed({ range: null, ...(isReversed ? { from: to, to: from } : { from, to }) })));
}

/** Ranges in a menu, with a beginning and an end of one's own. */
export function RangeMenu({ standard }: { readonly standard: string }): JSX.Element {
  return (
    <>
      <button class="btn" type="button" popovertarget="range" title="Key: t">
        <Icon name="clock" />
        {rangeName(query.value, standard)}
        <Icon name="down" />
      </button>
      <Dialog id="range" label="Time range">
        {() => <Ranges standard={standard} />}
      </Dialog>
    </>
  );
}

function Ranges({ standard }: { readonly standard: string }): JSX.Element {
  const from = query.value.get("from");
  const to = query.value.get("to");
  const present = from === null ? (query.value.get("range") ?? standard) : undefined;
  return (
    <>
      <div class="row">
        {[...RANGES, ["30d", "30 d"] as const, ["all", "All time"] as const].map(([range, name]) => (
          <a
            key={range}
            class="btn sm"
            href={href(page.value, changed({ range: range === standard ? null : range, from: null, to: null }))}
            aria-current={range === present ? "true" : undefined}
            data-first={range === present ? "" : undefined}
            onClick={() => closeDialog("range")}
          >
            {name}
          </a>
        ))}
      </div>
      <form class="stack" onSubmit={applyRange}>
        <label class="f">
          From
          <input class="field" type="datetime-local" name="from" required value={from === null ? "" : toLocal(new Date(from))} />
        </label>
        <label class="f">
          To <span class="help">Empty: now and later</span>
          <input class="field" type="datetime-local" name="to" value={to === null ? "" : toLocal(new Date(to))} />
        </label>
        <footer>
          <button class="btn primary" type="submit">
            Show
          </button>
        </footer>
      </form>
    </>
  );
}
