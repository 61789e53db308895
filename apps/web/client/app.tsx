/** The frame around every page: where one can go, the theme, the keyboard. */
import type { ComponentType, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useQuery } from "./api/query.ts";
import type { Me, WorkerList } from "./api/types.ts";
import { href, page } from "./location.ts";
import { Bar, isLive } from "./parts/bar.tsx";
import { Icon, type IconName } from "./parts/icon.tsx";
import { KeyHelp, useKeys } from "./parts/keys.tsx";
import { Empty } from "./parts/say.tsx";
import { Tasks } from "./pages/tasks.tsx";
import { switchTheme } from "./theme.ts";

type Load = () => Promise<ComponentType>;

/** Only the page that is shown is loaded. */
const PAGES: Readonly<Record<string, Load>> = {
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
};

const loaded = new Map<string, ComponentType>([["tasks", Tasks]]);

const WORKERS_EVERY_MS = 15_000;

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
  const [, setLoaded] = useState(false);
  const load = PAGES[name];
  const Shown = load === undefined ? Unknown : loaded.get(name);
  useEffect(() => {
    if (Shown !== undefined || load === undefined) return;
    load().then(
      (component) => {
        loaded.set(name, component);
        return setLoaded(true);
      },
      () => setFailed(true),
    );
  }, [name]);
  if (Shown !== undefined) return <Shown />;
  return hasFailed ? <Reload /> : null;
}

/** After an update of the server, the files of the page before are gone. */
function Reload(): JSX.Element {
  return (
    <div class="body">
      <section class="panel">
        <Empty icon="warn" title="This page could not be loaded">
          <p>The server does not answer, or it was updated meanwhile.</p>
          <button class="btn" type="button" onClick={() => window.location.reload()}>
            Reload
          </button>
        </Empty>
      </section>
    </div>
  );
}

function Side(): JSX.Element {
  const { data: me } = useQuery<Me>("me");
  const { data: workers } = useQuery<WorkerList>("workers", { everyMs: isLive.value ? WORKERS_EVERY_MS : undefined });
  const lost = workers?.items.filter(({ state }) => state === "lost").length ?? 0;
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
              href={href(to)}
              aria-current={page.value === to || page.value === also ? "page" : undefined}
            >
              <Icon name={icon} />
              <span>
                {before !== undefined && <i>{before}</i>}
                {name}
              </span>
              {to === "workers" && lost > 0 && (
                <span class="c bad">
                  {lost}
                  <span class="on-l"> lost</span>
                </span>
              )}
            </a>
          ))}
        </div>
      </nav>
      <div class="side-foot">
        <a href={href("about")} aria-current={page.value === "about" ? "page" : undefined}>
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

function Unknown(): JSX.Element {
  return (
    <>
      <Bar title="Not found" />
      <div class="body">
        <section class="panel">
          <Empty icon="search" title="There is no such page">
            <a class="link" href={href("tasks")}>
              Go to Tasks
            </a>
          </Empty>
        </section>
      </div>
    </>
  );
}
