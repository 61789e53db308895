import { expect, it } from "vitest";
import { observedWorkers } from "../src/workers.ts";

const replies = (values: Record<string, unknown[]>): { replies: Map<string, unknown[]> } => ({ replies: new Map(Object.entries(values)) });
const queue = (name: unknown): object => ({ name, exchange: { name } });
const NONE = replies({});

const STATS = {
  total: { "shop.mail": 3 },
  pid: 12,
  clock: "7",
  uptime: 60,
  pool: { implementation: "celery.concurrency.prefork:TaskPool", "max-concurrency": 4, processes: [13, 14, 15], timeouts: [0, 0] },
  prefetch_count: 16,
};

it("joins both replies of a worker", () => {
  const activeQueues = replies({ "w1@a": [[queue("mail"), queue("images"), queue("mail")]] });
  expect(observedWorkers(replies({ "w1@a": [STATS] }), activeQueues)).toEqual([
    {
      hostname: "w1@a",
      queues: ["mail", "images"],
      pid: 12,
      uptime: 60,
      pool: "celery.concurrency.prefork:TaskPool",
      concurrency: 3,
      prefetchCount: 16,
    },
  ]);
});

it("takes the limit of a pool that lists no processes", () => {
  const { processes: _, ...pool } = STATS.pool;
  expect(observedWorkers(replies({ "w1@a": [{ pool }] }), NONE)).toMatchObject([{ concurrency: 4 }]);
});

it("lists a worker that answered only one question, in order of names", () => {
  expect(observedWorkers(replies({ "w2@a": [{ pid: 1 }] }), replies({ "w1@a": [[queue("mail")]] }))).toEqual([
    { hostname: "w1@a", queues: ["mail"] },
    { hostname: "w2@a", pid: 1 },
  ]);
});

it("lists two workers of one name, with the queues of both", () => {
  const both = observedWorkers(replies({ "w1@a": [{ pid: 1 }, { pid: 2 }] }), replies({ "w1@a": [[queue("mail")], [queue("images")]] }));
  expect(both).toEqual([
    { hostname: "w1@a", pid: 1, queues: ["mail", "images"] },
    { hostname: "w1@a", pid: 2, queues: ["mail", "images"] },
  ]);
});

it.each([
  [null],
  ["text"],
  [[]],
  [{ pid: "12", uptime: -1, prefetch_count: 1.5, pool: "solo" }],
  [{ pool: { processes: "many", "max-concurrency": null, implementation: 5 } }],
])("leaves out what is not as Celery sends it: %j", (stats) => {
  expect(observedWorkers(replies({ "w1@a": [stats] }), replies({ "w1@a": [[queue(5), queue(""), null, "mail"]] }))).toEqual([
    { hostname: "w1@a", queues: [] },
  ]);
  expect(observedWorkers(NONE, replies({ "w1@a": [{ mail: 1 }] }))).toEqual([{ hostname: "w1@a", queues: [] }]);
});

it("limits the number of queues and the length of names", () => {
  const many = Array.from({ length: 1_500 }, (_, index) => queue(`q${index}`));
  const [worker] = observedWorkers(NONE, replies({ [`w@${"a".repeat(2_000)}`]: [many] }));
  expect(worker?.queues).toHaveLength(1_000);
  expect(worker?.hostname.length).toBeLessThanOrEqual(512);
});
