/** The HTTP API reads the database as a user with exactly the rights in docs/permissions.md. */
import { createLogger, startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { afterAll, beforeAll, expect, it } from "vitest";
import { webRole } from "web";
import { openScene, type Scene } from "./scene.ts";

const ROUTES = [
  "tasks",
  "tasks?text=x",
  "tasks.csv",
  "tasks/one",
  "tasks?lost=true",
  "tasks/one/tree",
  "tasks/one/events",
  "failures",
  "names",
  "task-types",
  "statistics",
  "workers",
  "queues",
  "health-of-data",
];

let scene: Scene;
let running: RunningRoles | undefined;
let url = "";

beforeAll(async () => {
  scene = await openScene();
  await scene.database.query(
    `insert into celery_task (task_id, name, status, last_event_at, state_at, state_precedence, state_rank, state_hostname)
     values ('one', 'shop.pay', 'STARTED', now(), now(), 1, 1, 'w1@host')`,
  );
  // It connects to nothing but the database: nothing answers at these addresses.
  const env = {
    DATABASE_URL: scene.databaseUrlOf("cme_web"),
    REDIS_URL: "redis://127.0.0.1:1",
    WEB_PORT: "0",
    HEALTH_PORT: "0",
    WEB_REQUEST_TIMEOUT_SECONDS: "30",
  };
  running = await startRoles([webRole((opened) => (url = `${opened}/api/v1`))], env, createLogger("web", "silent"));
});
afterAll(async () => {
  await running?.stop();
  await scene?.close();
});

it.each(ROUTES)("is enough for %s", async (route) => {
  const answer = await fetch(`${url}/${route}`);
  expect(answer.status, await answer.text()).toBe(200);
});

it("gives no right to change a row", async () => {
  const { rows } = await scene.database.query<{ privilege: string }>(
    scene.sql("select distinct privilege_type as privilege from information_schema.table_privileges where grantee = 'cme_web'"),
  );
  expect(rows).toEqual([{ privilege: "SELECT" }]);
});

it("answers with a sentence once the right is gone, and says why in its log only", async () => {
  await scene.database.query(scene.sql("REVOKE SELECT ON celery_task FROM cme_web"));
  const answer = await fetch(`${url}/tasks?name=other`);
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ title: "Not available", detail: "The database is not available. The log says why." });
});
