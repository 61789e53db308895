/** The frame around every page: where one can go, the theme, the keyboard. */
import type { ComponentChildren, ComponentType, JSX } from "preact";
import { useEffect, useErrorBoundary, useRef, useState } from "preact/hooks";
import { isAnswering } from "./api/ask.ts";
import { useQuery, type Query } from "./api/query.ts";
import { pageHref } from "./api/statistics.ts";
import type { CountsAnswer, Me } from "./api/types.ts";
import { href, page } from "./location.ts";
import { Bar } from "./parts/bar.tsx";
import { compact, duration, number } from "./parts/format.ts";
import { gapsOf, isLate } from "./parts/gaps.ts";
import { Icon, type IconName } from "./parts/icon.tsx";
import { KeyHelp, useKeys } from "./parts/keys.tsx";
import { Empty, Failing } from "./parts/say.tsx";
import { Tasks } from "./pages/tasks.tsx";
import { switchTheme } from "./theme.ts";

type Load = () => Promise<ComponentType>;

/** Only the page that is shown is loaded. */
const PAGES: ReadonlyMap<string, Load> = new Map<string, Load>(
  Object.entries({
    "": async () => (await import("./pages/overview.tsx")).Overview,
    tasks: async () => Tasks,
    task: async () => (await import("./pages/task.tsx")).Task,
    failures: async () => (await import("./pages/failures.tsx")).Failures,
    types: async () => (await import("./pages/types.tsx")).Types,
    workers: async () => (await import("./pages/workers.tsx")).Workers,
    worker: async () => (await import("./pages/worker.tsx")).Worker,
    queues: async () => (await import("./pages/queues.tsx")).Queues,
    live: async () => (await import("./pages/live.tsx")).Live,
    about: async () => (await import("./pages/about.tsx")).About,
  }),
);

const loaded = new Map<string, ComponentType>([["tasks", Tasks]]);

/** Loads what a page needs. @throws if it cannot be loaded. */
async function componentOf(name: string, load: Load): Promise<void> {
  loaded.set(name, await load());
}

/** Loads a page before it is shown. If that fails, the page says so. */
export async function loadPage(name: string): Promise<void> {
  const load = PAGES.get(name);
  if (load !== undefined) await componentOf(name, load).catch(() => {});
}

const COUNTS_EVERY_MS = 15_000;
/** What a page shows comes first. */
const COUNTS_AFTER_MS = 400;

const LINKS: readonly {
  readonly to: string;
  readonly icon: IconName;
  readonly before?: string;
  readonly name: string;
  readonly also?: string;
  /** Phones have room for six; these are elsewhere there. */
  readonly isWide?: boolean;
}[] = [
  { to: "", icon: "overview", name: "Overview" },
  { to: "tasks", icon: "tasks", name: "Tasks", also: "task" },
  { to: "live", icon: "live", name: "Live", isWide: true },
  { to: "failures", icon: "warn", name: "Failures" },
  { to: "types", icon: "types", before: "Task ", name: "types" },
  { to: "workers", icon: "workers", name: "Workers", also: "worker" },
  { to: "queues", icon: "queues", name: "Queues" },
];

export function App(): JSX.Element {
  useKeys();
  const name = page.value;
  const shown = useRef(name);
  // Screen readers begin at the top of a new page.
  useEffect(() => {
    if (shown.current !== name) document.getElementById("main")?.focus({ preventScroll: true });
    shown.current = name;
  }, [name]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <Side />
      <main id="main" tabIndex={-1}>
        <Page key={name} name={name} />
      </main>
      <KeyHelp />
    </>
  );
}

function Page({ name }: { readonly name: string }): JSX.Element | null {
  const [hasFailed, setFailed] = useState(false);
  const [isBroken] = useErrorBoundary(console.error);
  const [, setLoaded] = useState(false);
  const load = PAGES.get(name);
  const Shown = load === undefined ? Unknown : loaded.get(name);
  useEffect(() => {
    if (Shown !== undefined || load === undefined) return;
    componentOf(name, load).then(
      () => setLoaded(true),
      () => setFailed(true),
    );
  }, [name]);
  if (isBroken !== undefined) return <Reload />;
  if (hasFailed) return <NotLoaded name={name} />;
  return Shown === undefined ? null : <Shown />;
}

/** Its files did not come. If nobody answers at all, they come once somebody does. */
function NotLoaded({ name }: { readonly name: string }): JSX.Element {
  const asked = useQuery<Me>("me");
  const failedAt = useRef(Date.now());
  const wasSilent = useRef(false);
  const { error } = asked;
  useEffect(() => {
    if (error !== undefined) wasSilent.current = true;
    // Browsers remember files that did not come. The address has all that the page shows.
    else if (wasSilent.current) window.location.reload();
  }, [error]);
  if (error === undefined && !wasSilent.current && asked.at >= failedAt.current) return <Reload />;
  return (
    <>
      <Bar title={titleOf(name)} />
      <div class="body">
        <Failing query={{ ...asked, data: undefined }} />
      </div>
    </>
  );
}

function titleOf(name: string): string {
  const { before = "", name: title } = LINKS.find(({ to }) => to === name) ?? { name: `${name.slice(0, 1).toUpperCase()}${name.slice(1)}` };
  return `${before}${title}`;
}

/** After an update of the server, the files of the page before are gone, and answers may lack what it shows. */
function Reload(): JSX.Element {
  return (
    <div class="body">
      <section class="panel">
        <Empty icon="warn" title="This page could not be loaded">
          <p>The server does not answer as expected. Perhaps it was updated meanwhile.</p>
          <button class="btn" type="button" onClick={() => window.location.reload()}>
            Reload
          </button>
        </Empty>
      </section>
    </div>
  );
}

/** What stands beside the entries, in one question. */
function useCounts(): Query<CountsAnswer> {
  const [isTime, setTime] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setTime(true), COUNTS_AFTER_MS);
    return () => clearTimeout(timer);
  }, []);
  return useQuery<CountsAnswer>(isTime ? "counts" : undefined, { everyMs: COUNTS_EVERY_MS });
}

interface CountProps {
  readonly value: number;
  readonly tone?: "bad" | "warn";
  /** What is counted, for those who do not see where it stands. */
  readonly of: string;
  /** Shown too, where there is room. */
  readonly word?: string;
}

function Count({ value, tone, of, word }: CountProps): JSX.Element | null {
  if (value === 0) return null;
  return (
    <span class={`c ${tone ?? ""}`} title={`${number(value)} ${of}`}>
      {compact(value)}
      {word !== undefined && <span class="on-l"> {word}</span>}
      <span class="sr"> {of}</span>
    </span>
  );
}

const COUNTS: Readonly<Record<string, (counts: CountsAnswer) => ComponentChildren>> = {
  failures: ({ failure_groups }) => <Count value={failure_groups} tone="bad" of="groups in the last 24 hours" />,
  types: ({ task_types }) => <Count value={task_types} of="names" />,
  workers: ({ workers, workers_lost }) =>
    workers_lost > 0 ? (
      <Count value={workers_lost} tone="bad" of="of them silent without a word" word="lost" />
    ) : (
      <Count value={workers} of="heard in the last 24 hours" />
    ),
  queues: ({ queues, queues_growing }) =>
    queues_growing > 0 ? (
      <Count value={queues_growing} tone="warn" of="of them longer each minute" word={queues_growing === 1 ? "grows" : "grow"} />
    ) : (
      <Count value={queues} of="observed in the last 15 minutes" />
    ),
};

function Side(): JSX.Element {
  const [isBroken] = useErrorBoundary(console.error);
  const { data: me } = useQuery<Me>("me");
  const known = useCounts();
  // The entries stay if their counts cannot be shown.
  const counts = isBroken === undefined ? known.data : undefined;
  return (
    <header class="side">
      <a class="brand" href={href("")}>
        <Icon name="brand" />
        <span>
          <b>Celery</b>
        </span>
      </a>
      <nav aria-label="Pages">
        <div class="nav">
          {LINKS.map(({ to, icon, before, name, also, isWide = false }) => (
            <a
              key={to}
              class={isWide ? "on-l" : undefined}
              href={pageHref(to)}
              aria-current={page.value === to || page.value === also ? "page" : undefined}
            >
              <Icon name={icon} />
              <span>
                {before !== undefined && <i>{before}</i>}
                {name}
              </span>
              {counts !== undefined && COUNTS[to]?.(counts)}
            </a>
          ))}
        </div>
      </nav>
      <div class="side-foot">
        {known.error !== undefined || !isAnswering.value ? <Silent /> : counts !== undefined && <Health counts={counts} />}
        <a class="about" href={href("about")} aria-current={page.value === "about" ? "page" : undefined}>
          <Icon name="info" />
          <span>{me === undefined || me.name === "anyone" ? "About" : `${me.name}, ${me.role}`}</span>
        </a>
        <div class="row">
          <a
            class="btn ghost sm icon on-phone"
            href={href("live")}
            aria-label="Live"
            aria-current={page.value === "live" ? "page" : undefined}
          >
            <Icon name="live" />
          </a>
          <button class="btn ghost sm icon" type="button" aria-label="Switch between light and dark" onClick={switchTheme}>
            <Icon name="theme" />
          </button>
          <button class="btn ghost sm icon on-l" type="button" popovertarget="keys" aria-label="Keyboard shortcuts">
            <Icon name="keys" />
          </button>
        </div>
      </div>
    </header>
  );
}

/** Nothing is known of the data now. The page says why. */
function Silent(): JSX.Element {
  return (
    <a class="on-l" href={`${href("")}#health`} title="What is shown may be old">
      <span class="dot bad" />
      <span>No answer</span>
    </a>
  );
}

/** How late the data is, and how much is missing. */
function Health({ counts: { health } }: { readonly counts: CountsAnswer }): JSX.Element | null {
  const notes = gapsOf(health).length;
  return (
    <>
      {health.lag !== null && (
        <a class="on-l" href={`${href("")}#health`} title="From an event to its row">
          <span class={isLate(health) ? "dot warn" : "dot"} />
          <span>{duration(Math.max(0, health.lag))} behind</span>
        </a>
      )}
      {notes > 0 && (
        <a class="on-l" href={`${href("")}#health`}>
          <Icon name="warn" />
          <span>
            {notes} {notes === 1 ? "note" : "notes"} on this data
          </span>
        </a>
      )}
    </>
  );
}

/** The address is in the field of the browser. It may be any text, so it is not repeated. */
function Unknown(): JSX.Element {
  return (
    <>
      <Bar title="Not found" />
      <div class="body">
        <section class="panel">
          <Empty icon="search" title="There is no such page">
            <p>Nothing is at this address. Perhaps you look for one of these:</p>
            <div class="row">
              {LINKS.map(({ to, before = "", name }) => (
                <a key={to} class="btn sm" href={href(to)}>
                  {before}
                  {name}
                </a>
              ))}
            </div>
          </Empty>
        </section>
      </div>
    </>
  );
}
