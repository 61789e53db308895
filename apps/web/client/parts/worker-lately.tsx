/** What a worker did in the last hours, and where its tasks come from. */
import type { JSX } from "preact";
import { useQuery } from "../api/query.ts";
import type { ActivityList, QueueList, WorkerActivity } from "../api/types.ts";
import { href } from "../location.ts";
import { Chart } from "./chart.tsx";
import { number, rate } from "./format.ts";
import { Age } from "./queue.tsx";
import { TaskName } from "./task.tsx";
import { Heads } from "./heads.tsx";

/** How many tasks it took over time, and how many of them failed. */
export function Lately({ list: { from, step_seconds, items } }: { readonly list: ActivityList }): JSX.Element {
  const stepMs = step_seconds * 1_000;
  const perMinute = (counts: readonly number[]): number[] => counts.map((count) => count / (step_seconds / 60));
  // The last step is not over.
  const tasks = items[0]?.tasks.slice(0, -1) ?? [];
  const failures = items[0]?.failures ?? [];
  return (
    <section class="panel" aria-labelledby="lately">
      <header>
        <h2 id="lately">Tasks a minute</h2>
        <p>last 3 hours, by when they were sent</p>
      </header>
      <div class="pad">
        <Chart
          times={tasks.map((_, index) => Date.parse(from) + index * stepMs)}
          stepMs={stepMs}
          series={[
            { name: "Failed", tone: "fail", values: perMinute(tasks.map((_, index) => failures[index] ?? 0)) },
            { name: "Others", tone: "ok", values: perMinute(tasks.map((count, index) => count - (failures[index] ?? 0))) },
          ]}
          kind="bars"
          height="mid"
          format={rate}
          label="Tasks a minute on this worker, and those that failed"
        />
      </div>
    </section>
  );
}

export function Consumes({ queues, everyMs }: { readonly queues: readonly string[]; readonly everyMs: number }): JSX.Element {
  const { data } = useQuery<QueueList>("queues?range=3h&step=3m", { everyMs });
  return (
    <section class="panel" aria-labelledby="consumes">
      <header>
        <h2 id="consumes">Consumes</h2>
        <p>{queues.length === 1 ? "1 queue" : `${number(queues.length)} queues`}</p>
      </header>
      <table>
        <Heads of={["Queue", ["n", "Waiting"], ["n", "Oldest"]]} />
        <tbody>
          {queues.slice(0, MOST_QUEUES).map((name) => {
            const queue = data?.items.find((one) => one.name === name);
            return (
              <tr key={name}>
                <th scope="row" class="w">
                  <a class="cut" href={href("queues", { queue: name })} title={name}>
                    {name}
                  </a>
                </th>
                <td class="n">{queue === undefined || queue.messages === null ? <span class="nil">–</span> : number(queue.messages)}</td>
                <td class="n">
                  <Age at={queue?.oldest_at ?? null} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

const MOST_QUEUES = 20;
const MOST_TYPES = 8;

export function Ran({ activity }: { readonly activity: WorkerActivity | undefined }): JSX.Element | null {
  const types = activity?.types ?? [];
  if (types.length === 0) return null;
  const seconds = types.reduce((sum, type) => sum + type.seconds, 0);
  return (
    <section class="panel" aria-labelledby="ran">
      <header>
        <h2 id="ran">What it ran</h2>
        <p>3 hours, by time spent</p>
      </header>
      <table>
        <Heads of={["Task", ["n", "Runs"], ["n", "Time"]]} />
        <tbody>
          {types.slice(0, MOST_TYPES).map(({ name, count, seconds: own, estimated }) => (
            <tr key={name}>
              <th scope="row" class="w">
                <a class="cut" href={href("tasks", { name, worker: activity?.name ?? null, range: "3h" })} title={name}>
                  <TaskName name={name === "" ? null : name} />
                </a>
              </th>
              <td class="n" title={estimated ? "Estimated from 200 tasks of each minute" : undefined}>
                {estimated && "≈ "}
                {number(count)}
              </td>
              <td class="n">{seconds === 0 ? <span class="nil">–</span> : `${Math.round((own / seconds) * 100)} %`}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
