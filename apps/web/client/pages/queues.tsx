/** Queues: which grow, and who takes from them. */
import type { JSX } from "preact";
import { useQuery } from "../api/query.ts";
import { lengthMs } from "../api/statistics.ts";
import type { Queue, QueueList, Worker, WorkerList } from "../api/types.ts";
import { href, navigate, changed, page, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, isLive } from "../parts/bar.tsx";
import { Chart, Spark } from "../parts/chart.tsx";
import { Icon } from "../parts/icon.tsx";
import { Call, Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { number } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";
import { WorkerBadge } from "../parts/worker.tsx";
import { WORKERS_EVERY_MS } from "./workers.tsx";

const STANDARD_RANGE = "3h";
const STEPS: Readonly<Record<string, string>> = { "15m": "1m", "1h": "1m", "3h": "3m", "24h": "15m", "7d": "2h" };

export function Queues(): JSX.Element {
  const range = query.value.get("range") ?? STANDARD_RANGE;
  const step = STEPS[range] ?? "1d";
  const everyMs = isLive.value ? WORKERS_EVERY_MS : undefined;
  const asked = useQuery<QueueList>(`queues?${new URLSearchParams({ range, step }).toString()}`, { everyMs });
  const { data: workers } = useQuery<WorkerList>("workers", { everyMs });
  const items = asked.data?.items ?? [];
  const waiting = items.reduce((sum, { messages }) => sum + (messages ?? 0), 0);
  const newest = items
    .map(({ observed_at }) => observed_at)
    .sort()
    .at(-1);
  const abandoned = items.filter((queue) => (queue.messages ?? 0) > 0 && takersOf(queue, workers?.items) === 0);

  return (
    <>
      <Bar
        title="Queues"
        sub={
          newest !== undefined && (
            <>
              {number(waiting)} waiting, asked the broker <Time at={newest} />
            </>
          )
        }
      >
        <RangeTabs standard={STANDARD_RANGE} />
        <LiveButton />
      </Bar>
      <div class="body">
        <Failing query={asked} />
        {abandoned.slice(0, 3).map(({ name, messages }) => (
          <Call key={name} tone="fail" icon="warn" title={`Nobody takes from ${name}`}>
            {number(messages ?? 0)} tasks wait. Start a worker with <Setting>{`celery worker -Q ${name}`}</Setting>
          </Call>
        ))}
        <section class="panel" aria-label="Queues" aria-busy={asked.isPrevious}>
          {asked.data === undefined ? (
            asked.error === undefined && <Loading />
          ) : items.length === 0 ? (
            <Empty icon="queues" title="No queue was observed in this range">
              <p>
                The role monitor asks the broker how long the queues are. Start it: <Setting>pnpm --filter monitor start</Setting>. It is a
                part of <code>pnpm start</code>.
              </p>
            </Empty>
          ) : (
            <Table list={asked.data} step={step} workers={workers?.items} />
          )}
          {asked.data?.unacked?.messages !== null && asked.data?.unacked !== null && asked.data !== undefined && (
            <footer>
              <span>
                <b>{number(asked.data.unacked.messages ?? 0)}</b> more are taken by workers and not acknowledged
                {asked.data.unacked.oldest_at !== null && (
                  <>
                    , the oldest since <Time at={asked.data.unacked.oldest_at} />
                  </>
                )}
                .
              </span>
            </footer>
          )}
        </section>
      </div>
    </>
  );
}

/** How many take from it; undefined if nobody tells. */
function takersOf({ name, consumers }: Queue, workers: readonly Worker[] | undefined): number | undefined {
  if (consumers !== null) return consumers;
  const up = workers?.filter(({ state }) => state === "up") ?? [];
  const takers = up.filter(({ queues }) => queues?.includes(name) === true).length;
  // A worker that nobody asked may take from it too.
  return takers === 0 && (workers === undefined || up.some(({ queues }) => queues === null)) ? undefined : takers;
}

interface TableProps {
  readonly list: QueueList;
  readonly step: string;
  readonly workers: readonly Worker[] | undefined;
}

function Table({ list, step, workers }: TableProps): JSX.Element {
  const opened = query.value.get("queue");
  return (
    <table class="qt">
      <thead>
        <tr>
          <th scope="col">Queue</th>
          <th scope="col" class="n">
            Waiting
          </th>
          <th scope="col" class="n p3">
            In this range
          </th>
          <th scope="col" class="p2">
            Balance
          </th>
          <th scope="col" class="n">
            Consumers
          </th>
        </tr>
      </thead>
      <tbody>
        {list.items.map((queue) => {
          const isOpen = queue.name === opened;
          const takers = takersOf(queue, workers);
          return (
            <>
              <tr class={isOpen ? "open" : undefined} key={queue.name} data-row={queue.name}>
                <th scope="row">
                  <button
                    class="row nowrap opener"
                    type="button"
                    aria-expanded={isOpen}
                    data-open
                    onClick={() => navigate(href(page.value, changed({ queue: isOpen ? null : queue.name })), { replace: true })}
                  >
                    <Icon name={isOpen ? "down" : "chev"} class="chev" />
                    <b class="fn cut" title={queue.name}>
                      {queue.name}
                    </b>
                  </button>
                  <span class="on-s sub">
                    <Balance queue={queue} step={step} />
                  </span>
                </th>
                <td class="n">{queue.messages === null ? <span class="nil">–</span> : number(queue.messages)}</td>
                <td class="p3">
                  <Spark values={queue.lengths} tone="ink" label={`Waiting in ${queue.name}`} />
                </td>
                <td class="p2 nowrap">
                  <Balance queue={queue} step={step} />
                </td>
                <td class={takers === 0 ? "n bad" : "n"}>{takers ?? <span class="nil">?</span>}</td>
              </tr>
              {isOpen && (
                <tr class="open" key={`${queue.name} opened`}>
                  <td colSpan={5}>
                    <Inside queue={queue} list={list} step={step} workers={workers} />
                  </td>
                </tr>
              )}
            </>
          );
        })}
      </tbody>
    </table>
  );
}

/** How the length changed in the last steps, a minute. */
function Balance({ queue: { lengths }, step }: { readonly queue: Queue; readonly step: string }): JSX.Element {
  const known = lengths.flatMap((length, index) => (length === null ? [] : [{ length, index }])).slice(-4);
  const [first] = known;
  const last = known.at(-1);
  if (first === undefined || last === undefined || first === last) return <span class="nil">–</span>;
  const change = (last.length - first.length) / (((last.index - first.index) * lengthMs(step)) / 60_000);
  if (Math.abs(change) < 0.5) return <span class="muted">steady</span>;
  return (
    <span class={change > 0 ? "warn" : "good"}>
      <Icon name={change > 0 ? "up" : "dn"} class="inl" /> {change > 0 ? "grows" : "shrinks"} by {number(Math.round(Math.abs(change)))} a
      minute
    </span>
  );
}

function Inside({ queue, list, step, workers }: TableProps & { readonly queue: Queue }): JSX.Element {
  const from = Date.parse(list.from);
  const stepMs = lengthMs(step);
  const takers = workers?.filter(({ queues }) => queues?.includes(queue.name) === true) ?? [];
  return (
    <div class="qopen">
      <div class="cols">
        <div class="sub-panel">
          <h2>Waiting in {queue.name}</h2>
          <Chart
            times={queue.lengths.map((_, index) => from + index * stepMs)}
            stepMs={stepMs}
            series={[{ name: "waiting", tone: "ink", values: queue.lengths }]}
            kind="lines"
            height="mid"
            label={`Tasks waiting in ${queue.name}`}
          />
        </div>
        <div class="sub-panel">
          <h2>Consumers</h2>
          {takers.length === 0 ? (
            <p class="small soft">Not known: the role monitor asks workers for their queues, unless MONITOR_INSPECT=false.</p>
          ) : (
            <ul>
              {takers.map(({ name, state }) => (
                <li class="row nowrap small" key={name}>
                  <WorkerBadge state={state} glyph />
                  <a class="cut" href={href("worker", { name })}>
                    {name}
                  </a>
                </li>
              ))}
            </ul>
          )}
          <div class="row small">
            <a class="link" href={href("tasks", { queue: queue.name })}>
              Tasks of this queue
            </a>
            <a class="link" href={href("tasks", { queue: queue.name, status: "PENDING" })}>
              those that wait
            </a>
          </div>
        </div>
      </div>
    </div>
  );
}
