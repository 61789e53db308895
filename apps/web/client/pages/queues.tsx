/** Queues: which grow, and who takes from them. */
import { Fragment, type JSX } from "preact";
import { useQuery } from "../api/query.ts";
import type { Queue, QueueList, Worker, WorkerList } from "../api/types.ts";
import { href, navigate, changed, page, query } from "../location.ts";
import { Bar, LiveButton, RangeTabs, rangeName } from "../parts/bar.tsx";
import { Spark } from "../parts/chart.tsx";
import { Heads } from "../parts/heads.tsx";
import { Icon } from "../parts/icon.tsx";
import { Call, Empty, Failing, Loading, Setting } from "../parts/say.tsx";
import { isMonitored } from "../parts/monitored.ts";
import { Age, OpenQueue } from "../parts/queue.tsx";
import { Balance, Consumers, silenceOf, takersOf } from "../parts/takers.tsx";
import { number, rate, shortTime } from "../parts/format.ts";
import { Time } from "../parts/time.tsx";
import { WORKERS_EVERY_MS } from "./workers.tsx";

const STANDARD_RANGE = "3h";
const STEPS: Readonly<Record<string, string>> = { "15m": "1m", "1h": "1m", "3h": "3m", "24h": "15m", "7d": "2h" };

export function Queues(): JSX.Element {
  const range = query.value.get("range") ?? STANDARD_RANGE;
  const step = STEPS[range] ?? "1d";
  const asked = useQuery<QueueList>(`queues?${new URLSearchParams({ range, step }).toString()}`, { everyMs: WORKERS_EVERY_MS });
  const { data: workers, at } = useQuery<WorkerList>("workers", { everyMs: WORKERS_EVERY_MS });
  const items = asked.data?.items ?? [];
  const waiting = items.reduce((sum, { messages }) => sum + (messages ?? 0), 0);
  const newest = items
    .map(({ observed_at }) => observed_at)
    .sort()
    .at(-1);
  const abandoned = items.filter((queue) => takersOf(queue, workers?.items).isAbandoned);

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
        {abandoned.slice(0, MOST_CALLS).map((queue) => (
          <Abandoned key={queue.name} queue={queue} workers={workers?.items ?? []} />
        ))}
        {abandoned.length > MOST_CALLS && (
          <p class="small">
            Nor from{" "}
            {abandoned
              .slice(MOST_CALLS)
              .map(({ name }) => name)
              .join(", ")}
            .
          </p>
        )}
        <section class="panel" aria-label="Queues" aria-busy={asked.isPrevious}>
          {asked.data === undefined ? (
            asked.error === undefined && <Loading />
          ) : items.length === 0 ? (
            <Empty
              icon="queues"
              title={isMonitored(asked.data, workers?.items) ? "No queue has been seen yet" : "No queue was observed in this range"}
            >
              {isMonitored(asked.data, workers?.items) ? (
                <p>The role monitor looks for queues. They appear here once a message has been sent to them.</p>
              ) : (
                <p>
                  The role monitor asks the broker how long the queues are. Start it:{" "}
                  <Setting then=".">pnpm --filter monitor start</Setting> It is a part of <code>pnpm start</code>.
                </p>
              )}
            </Empty>
          ) : (
            <Table list={asked.data} step={step} workers={workers?.items} at={at} />
          )}
          {items.length > 0 && (
            <footer>
              <span class="muted">
                Lengths come from the broker. The rest comes from events, and counts only tasks whose clients have{" "}
                <code>task_send_sent_event = True</code>.
              </span>
            </footer>
          )}
          {asked.data?.unacked?.messages !== null && asked.data?.unacked !== null && asked.data !== undefined && (
            <footer>
              <span>
                <b>{number(asked.data.unacked.messages ?? 0)}</b> more: taken by workers and not acknowledged yet
                {asked.data.unacked.oldest_at !== null && (
                  <>
                    , the oldest <Time at={asked.data.unacked.oldest_at} />
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

const LAST_WORDS: Readonly<Record<Worker["state"], string>> = {
  up: "was last heard",
  unknown: "was last heard",
  lost: "fell silent",
  offline: "went offline",
};

function Abandoned({ queue, workers }: { readonly queue: Queue; readonly workers: readonly Worker[] }): JSX.Element {
  const last = workers
    .filter(({ queues, heard_at }) => heard_at !== null && queues?.includes(queue.name) === true)
    .sort((one, other) => ((other.heard_at ?? "") > (one.heard_at ?? "") ? 1 : -1))[0];
  return (
    <Call tone="fail" icon="warn" title={`Nobody takes from ${queue.name}`}>
      {number(queue.messages ?? 0)} tasks wait{queue.oldest_at !== null && `, the oldest since ${shortTime(new Date(queue.oldest_at))}`}.{" "}
      {last !== undefined && last.heard_at !== null && (
        <>
          Its last consumer,{" "}
          <a class="link" href={href("worker", { name: last.name })}>
            {last.name}
          </a>
          , {LAST_WORDS[last.state]} <Time at={last.heard_at} />.{" "}
        </>
      )}
      Start a worker with <Setting>{`celery worker -Q ${queue.name}`}</Setting>
    </Call>
  );
}

interface TableProps {
  readonly list: QueueList;
  readonly step: string;
  readonly workers: readonly Worker[] | undefined;
  /** When the workers were asked for, in milliseconds since 1970. */
  readonly at: number;
}

/** Calls above the table. */
const MOST_CALLS = 3;
const COLUMNS = 8;

function Table({ list, step, workers, at }: TableProps): JSX.Element {
  const opened = query.value.get("queue");
  return (
    <table class="qt">
      <Heads
        of={[
          "Queue",
          ["n", "Waiting"],
          ["n p3", rangeName(query.value, STANDARD_RANGE)],
          ["n", "Oldest"],
          ["n p3", <abbr title="Tasks sent to it, in those of the last 15 minutes of which something is known">In per minute</abbr>],
          ["n p3", <abbr title="What was sent to it, less what it grew by">Out per minute</abbr>],
          ["p2", "Balance"],
          ["n", "Consumers"],
        ]}
      />
      <tbody>
        {list.items.map((queue) => {
          const isOpen = queue.name === opened;
          const takers = takersOf(queue, workers);
          const silentMs = silenceOf(queue, workers, at);
          const { lately } = queue;
          return (
            <Fragment key={queue.name}>
              <tr class={isOpen ? "open" : undefined} data-row={queue.name}>
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
                    <Balance queue={queue} takers={takers} silentMs={silentMs} />
                  </span>
                </th>
                <td class="n">{queue.messages === null ? <span class="nil">–</span> : number(queue.messages)}</td>
                <td class="p3">
                  <Spark
                    values={queue.lengths}
                    tone={takers.isAbandoned || (lately.trend === "grows" && (lately.change ?? 0) >= MUCH_GROWTH) ? "fail" : "ink"}
                    label={`Waiting in ${queue.name}`}
                  />
                </td>
                <td class="n">
                  <Age at={queue.oldest_at} />
                </td>
                <td class="n p3">
                  <Rate value={lately.sent} />
                </td>
                <td class="n p3">
                  <Rate value={lately.taken} />
                </td>
                <td class="p2 nowrap">
                  <Balance queue={queue} takers={takers} silentMs={silentMs} />
                </td>
                <td class="n">
                  <Consumers takers={takers} />
                </td>
              </tr>
              {isOpen && (
                <tr class="open">
                  <td colSpan={COLUMNS}>
                    <OpenQueue queue={queue} list={list} step={step} workers={workers ?? []} />
                  </td>
                </tr>
              )}
            </Fragment>
          );
        })}
      </tbody>
    </table>
  );
}

/** Growth a minute that is worth a colour. */
const MUCH_GROWTH = 10;

function Rate({ value }: { readonly value: number | null }): JSX.Element {
  return value === null ? <span class="nil">–</span> : <>{rate(value)}</>;
}
