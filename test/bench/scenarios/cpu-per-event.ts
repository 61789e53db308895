/** CPU time per event of each process and each server. The roles work one after the other, while the others are stopped. */
import type { Expected } from "../expected.ts";
import { Rounds, type Goal, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst, type Framing } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { EXPORTER_NAMES, microsPerEvent, type ROLES, Stage, WARM_UP_EVENTS, type BrokerName, type Consumer } from "../stage.ts";

type Role = (typeof ROLES)[number];

/** No more than this: a receiver that is stopped for 10 s, while they are published, loses its connection. */
const EVENTS = 100_000;

const CASES: readonly { readonly broker: BrokerName; readonly framing: Framing; readonly receiver: Goal }[] = [
  { broker: "RabbitMQ", framing: "multi", receiver: { atMost: 12 } },
  { broker: "RabbitMQ", framing: "single", receiver: { atMost: 18 } },
  { broker: "Redis", framing: "multi", receiver: { atMost: 12 } },
  { broker: "Redis", framing: "single", receiver: { atMost: 18 } },
];

/** The consumers that work for each role, with their goals. For the datadog-processor, Redis works on the Store. */
function serversOf(role: Role, broker: BrokerName): readonly (readonly [Consumer, Goal?])[] {
  switch (role) {
    case "receiver":
      return [[broker === "Redis" ? "broker Redis" : broker], ["Redis"]];
    case "datadog-processor":
      return [["Redis", { atMost: 10 }]];
    case "postgres-processor":
      return [["Redis"], ["PostgreSQL"]];
  }
}

export const cpuPerEvent: Scenario = {
  name: "cpu",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (const { broker, framing, receiver } of CASES) {
      const goals: Readonly<Record<Role, Goal>> = {
        receiver,
        "datadog-processor": { atMost: 15 },
        "postgres-processor": { atMost: 12 },
      };
      for (let round = 1; round <= bench.rounds; round += 1) {
        bench.progress(`CPU per event, ${broker}, ${framing} frames, round ${round} of ${bench.rounds}`);
        for (const [role, used] of await measure(bench, broker, framing)) {
          rounds.add(`${role} (${broker}, ${framing})`, "µs CPU per event", used.get(role) ?? Number.NaN, goals[role]);
          for (const [server, goal] of serversOf(role, broker)) {
            rounds.add(`— ${server}, for the ${role} (${broker}, ${framing})`, "µs CPU per event", used.get(server) ?? Number.NaN, goal);
          }
        }
      }
    }
    return {
      title: "CPU per event",
      note: `User and system time for ${EVENTS.toLocaleString("en")} events with two exporters and one process per role, after ${WARM_UP_EVENTS.toLocaleString("en")} events to warm up. Only one role works at a time, so no process waits for a shared core. The servers' usage during that time is listed below the role; for RabbitMQ it does not include publishing. (Redis pub/sub stores nothing, so there the receiver works while events are published.) multi: workers' events in lists of up to 24, clients' events single; single: every event single.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers }: Bench, broker: BrokerName, framing: Framing): Promise<Map<Role, Map<Consumer, number>>> {
  const stage = await Stage.open(servers, { broker });
  try {
    const expected = await stage.warmUp(framing);
    const burst = prepareBurst(EVENTS, framing);
    expected.addAll(burst.expected);
    const used = new Map<Role, Map<Consumer, number>>();
    const alone = async (role: Role, done: () => Promise<void>, before = stage.usage()): Promise<void> => {
      stage.signal("SIGCONT", role);
      await done();
      used.set(role, microsPerEvent(before, stage.usage(), burst.expected.events));
      stage.signal("SIGSTOP", role);
    };
    const ended = stage.agent.tasks + burst.expected.tasks;
    stage.signal("SIGSTOP");
    // Redis stores nothing for a subscriber that does not read.
    if (broker === "Redis") stage.signal("SIGCONT", "receiver");
    const beforePublishing = stage.usage();
    await publishBurst(stage.publisher, burst.frames);
    const before = broker === "Redis" ? beforePublishing : stage.usage();
    await alone("receiver", () => untilEnqueuedOnce(stage, expected), before);
    await alone("datadog-processor", () => stage.untilSent(ended));
    await alone("postgres-processor", () => stage.untilExported("postgres", expected.takenBy("postgres")));
    stage.signal("SIGCONT");
    await stage.delivered(expected);
    return used;
  } finally {
    await stage.close();
  }
}

async function untilEnqueuedOnce(stage: Stage, expected: Expected): Promise<void> {
  await stage.untilEnqueued(EXPORTER_NAMES, expected);
  if ((await stage.reconnects()) > 0) throw new Error("the receiver lost its connection while it was stopped");
}
