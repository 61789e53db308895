/** About: what runs here, who may see what, how it is set, and how complete the data is. */
import type { ComponentChildren, JSX } from "preact";
import { useQuery } from "../api/query.ts";
import type { AboutAnswer, DataHealth, Me, WorkerList } from "../api/types.ts";
import { href } from "../location.ts";
import { Bar } from "../parts/bar.tsx";
import { CONTROL_IS_OFF } from "../parts/control.tsx";
import { Icon } from "../parts/icon.tsx";
import { Notes } from "../parts/notes.tsx";
import { Copy, Failing, Loading, Setting } from "../parts/say.tsx";
import { duration, number, zone } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";
import { version } from "../parts/worker.tsx";

export function About(): JSX.Element {
  const about = useQuery<AboutAnswer>("about");
  const { data: me } = useQuery<Me>("me");
  const { data } = about;
  return (
    <>
      <Bar title="About" sub={data && `celery-metrics-exporter ${data.version}`} />
      <div class="body">
        <Failing query={about} />
        <div class="cols even">
          <div class="stack">
            <Panel title="Versions">{data === undefined ? <Loading rows={3} /> : <Versions about={data} />}</Panel>
            <Panel title="You and the roles">
              <Roles about={data} me={me} />
            </Panel>
          </div>
          <Panel title="Health of the data">
            <Health />
          </Panel>
        </div>
        <Panel title="Settings of the role web" sub={data?.settings && "Secrets are masked."}>
          {data !== undefined && <Settings settings={data.settings} role={me?.role} />}
        </Panel>
      </div>
    </>
  );
}

function LogOut({ at }: { readonly at: string }): JSX.Element {
  const logOut = async (): Promise<void> => {
    await fetch(`./${at}`, { method: "POST" });
    window.location.assign("./auth/logged-out");
  };
  return (
    <>
      <dt>Session</dt>
      <dd>
        <button class="btn sm" type="button" onClick={() => void logOut()}>
          Log out
        </button>
      </dd>
    </>
  );
}

interface PanelProps {
  readonly title: string;
  readonly sub?: string | null | undefined;
  readonly children: ComponentChildren;
}

function Panel({ title, sub, children }: PanelProps): JSX.Element {
  return (
    <section class="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
        {sub && <p>{sub}</p>}
      </header>
      {children}
    </section>
  );
}

function Versions({ about }: { readonly about: AboutAnswer }): JSX.Element {
  const { data: workers } = useQuery<WorkerList>("workers");
  const counts = new Map<string, number>();
  for (const { software, state } of workers?.items ?? [])
    if (software !== null && state !== "offline") counts.set(version(software), (counts.get(version(software)) ?? 0) + 1);
  return (
    <div class="pad">
      <dl class="kv">
        <dt>celery-metrics-exporter</dt>
        <dd>{about.version}</dd>
        <dt>Celery</dt>
        <dd>
          {counts.size === 0 ? (
            <span class="muted">no heartbeat tells, so far</span>
          ) : (
            [...counts].map(([name, count]) => (
              <div key={name}>
                {name}{" "}
                <span class="muted">
                  on {number(count)} {count === 1 ? "worker" : "workers"}
                </span>
              </div>
            ))
          )}
        </dd>
        <dt>PostgreSQL</dt>
        <dd>{about.postgres ?? <span class="bad">does not answer</span>}</dd>
        <dt>Node.js</dt>
        <dd>{about.node}</dd>
        <dt>API</dt>
        <dd>
          <a class="link" href="./api/v1/openapi.json" target="_blank" rel="noreferrer">
            openapi.json
          </a>
          , with everything that this page uses
        </dd>
        <dt>Exporter queues</dt>
        <dd>
          {about.dashboard_url === null ? (
            <>
              The role <code>dashboard</code> shows them. To link it here, set <Setting then=".">WEB_DASHBOARD_URL=https://…</Setting>
            </>
          ) : (
            <a class="link" href={about.dashboard_url} target="_blank" rel="noreferrer">
              BullMQ dashboard
            </a>
          )}
        </dd>
        <dt>Stream</dt>
        <dd>
          <a class="link" href={href("live")}>
            Live
          </a>
          , each change as it comes
        </dd>
      </dl>
    </div>
  );
}

function Roles({ about, me }: { readonly about: AboutAnswer | undefined; readonly me: Me | undefined }): JSX.Element {
  const [place, offset] = [Intl.DateTimeFormat().resolvedOptions().timeZone, zone()];
  return (
    <div class="pad stack">
      <dl class="kv">
        <dt>User</dt>
        <dd>{me?.name === "anyone" ? "everyone on this machine: no users are set" : me?.name}</dd>
        {typeof me?.logout === "string" && <LogOut at={me.logout} />}
        <dt>Time zone</dt>
        <dd>{place === offset ? place : `${place}, now ${offset}`}</dd>
        <dt>Control</dt>
        <dd>{CONTROL_IS_OFF}</dd>
      </dl>
      <dl class="kv">
        {about?.roles.map(({ role, may }) => (
          <>
            <dt key={role}>{role === me?.role ? <b>{role}</b> : role}</dt>
            <dd>
              {may} {role === me?.role && <span class="tag new">yours</span>}
            </dd>
          </>
        ))}
      </dl>
      <p class="small muted">
        Each role may also do what the roles above it may. <code>WEB_USERS</code> gives roles to people, <code>WEB_TOKENS</code> to scripts.
      </p>
    </div>
  );
}

function Health(): JSX.Element {
  const { data } = useQuery<DataHealth>("health-of-data");
  return (
    <>
      <Notes />
      {data !== undefined && (
        <div class="pad">
          <dl class="kv">
            <dt>Behind</dt>
            <dd>{data.lag === null ? <span class="muted">no task yet</span> : duration(Math.max(0, data.lag))}</dd>
            {(
              [
                ["Newest event", data.last_event_at],
                ["Newest row written", data.last_write_at],
                ["Last counted", data.rolled_up_at],
              ] as const
            ).map(([name, at]) => (
              <>
                <dt>{name}</dt>
                <dd>{at === null ? <span class="muted">never</span> : <Time at={at} />}</dd>
              </>
            ))}
          </dl>
        </div>
      )}
    </>
  );
}

interface SettingsProps {
  readonly settings: AboutAnswer["settings"];
  readonly role: Me["role"] | undefined;
}

function Settings({ settings, role }: SettingsProps): JSX.Element {
  if (settings === null) return <p class="pad small soft">Your role, {role}, does not see the settings. An admin does.</p>;
  const set = settings.filter(({ value, default: standard }) => value !== standard && value !== null && value !== "");
  const others = settings.filter((setting) => !set.includes(setting));
  return (
    <>
      <Rows settings={set} />
      <details class="pad">
        <summary class="row small">
          <Icon name="chev" class="chev" />
          {others.length} with their default
        </summary>
        <Rows settings={others} />
      </details>
      <footer>
        <span class="muted">Other roles show theirs with</span>{" "}
        <span class="row nowrap">
          <code>--print-config</code>
          <Copy text="celery-metrics-exporter start --print-config" label="Copy the command" />
        </span>
      </footer>
    </>
  );
}

function Rows({ settings }: { readonly settings: NonNullable<AboutAnswer["settings"]> }): JSX.Element {
  return (
    <dl class="kv pad">
      {settings.map(({ name, value, description }) => (
        <>
          <dt key={name} class="mono" title={description}>
            {name}
          </dt>
          <dd class="mono">{value === null || value === "" ? <span class="nil">not set</span> : value}</dd>
        </>
      ))}
    </dl>
  );
}
