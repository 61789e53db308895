/** The answers in docs/api.md are those of the API over a recording. */
import { readCorpus } from "@celery-metrics-exporter/celery/testing";
import { connectDatabase, migrate, upsertTasks } from "@celery-metrics-exporter/db";
import { createLogger, startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { webRole } from "web";

const DOCUMENT = readFileSync(new URL("../../docs/api.md", import.meta.url), "utf8");
const EXAMPLES = [...DOCUMENT.matchAll(/```sh\ncurl 'http:\/\/127\.0\.0\.1:5555([^']+)'\n```\n\n```json\n(.+?)\n```/gs)].map(
  ([, path = "", json = ""]) => ({ path, json }),
);

let database: TestDatabase;
let running: RunningRoles;
let url = "";

beforeAll(async () => {
  database = await createDatabase();
  await migrate(database.url);
  const rows = await connectDatabase({ url: database.url });
  await upsertTasks(rows, readCorpus("celery-5.6-amqp").events);
  await rows.close();
  const env = { DATABASE_URL: database.url, WEB_PORT: "0", HEALTH_PORT: "0", WEB_REQUEST_TIMEOUT_SECONDS: "30", FLOWER_API: "true" };
  running = await startRoles([webRole((opened) => (url = opened))], env, createLogger("web", "silent"));
});
afterAll(async () => {
  await running?.stop();
  await database?.drop();
});

it("there are examples of every kind of answer", () => {
  expect(EXAMPLES.length).toBeGreaterThanOrEqual(6);
});

it.each(EXAMPLES)("$path", async ({ path, json }) => {
  const answer = (await (await fetch(url + path)).json()) as object;
  const expected = JSON.parse(json) as object;
  // When the row was written.
  const times = { created_at: expect.any(String) as string, updated_at: expect.any(String) as string };
  expect(answer).toEqual("created_at" in expected ? { ...expected, ...times } : expected);
});
