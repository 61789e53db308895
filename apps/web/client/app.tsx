/** The frame around every page: where one can go, the theme, the keyboard. */
import type { ComponentType, JSX } from "preact";
import { useEffect } from "preact/hooks";
import { useQuery } from "./api/query.ts";
import type { Me } from "./api/types.ts";
import { href, page } from "./location.ts";
import { Bar } from "./parts/bar.tsx";
import { Icon, type IconName } from "./parts/icon.tsx";
import { KeyHelp, useKeys } from "./parts/keys.tsx";
import { Empty } from "./parts/say.tsx";
import { About } from "./pages/about.tsx";
import { Failures } from "./pages/failures.tsx";
import { Task } from "./pages/task.tsx";
import { Tasks } from "./pages/tasks.tsx";
import { Types } from "./pages/types.tsx";
import { switchTheme } from "./theme.ts";

const PAGES: Readonly<Record<string, ComponentType>> = {
  tasks: Tasks,
  task: Task,
  failures: Failures,
  types: Types,
  about: About,
};

const LINKS: readonly {
  readonly to: string;
  readonly icon: IconName;
  readonly before?: string;
  readonly name: string;
  readonly also?: string;
}[] = [
  { to: "", icon: "overview", name: "Overview" },
  { to: "tasks", icon: "tasks", name: "Tasks", also: "task" },
  { to: "failures", icon: "warn", name: "Failures" },
  { to: "types", icon: "types", before: "Task ", name: "types" },
  { to: "workers", icon: "workers", name: "Workers", also: "worker" },
  { to: "queues", icon: "queues", name: "Queues" },
];

export function App(): JSX.Element {
  useKeys();
  const Page = PAGES[page.value] ?? Unknown;
  // Screen readers begin at the top of a new page.
  useEffect(() => document.getElementById("main")?.focus({ preventScroll: true }), [page.value]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <Side />
      <main id="main" tabIndex={-1}>
        <Page key={page.value} />
      </main>
      <KeyHelp />
    </>
  );
}

function Side(): JSX.Element {
  const { data: me } = useQuery<Me>("me");
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
          {LINKS.map(({ to, icon, before, name, also }) => (
            <a key={to} href={href(to)} aria-current={page.value === to || page.value === also ? "page" : undefined}>
              <Icon name={icon} />
              <span>
                {before !== undefined && <i>{before}</i>}
                {name}
              </span>
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
