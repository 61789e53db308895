/** A real worker that is killed while it runs a task: the task is lost, until another worker gets it again and finishes it. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { createLogger, startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import {
  celeryEnvironment,
  createVhost,
  requireCeleryPython,
  startCeleryWorker,
  startRedis,
  type CeleryWorker,
  type CeleryWorkerOptions,
} from "@celery-metrics-exporter/testkit";
import { afterEach, expect, it } from "vitest";
import { webRole } from "web";
import { startWholePipeline } from "../integration/whole-pipeline.ts";
import { slowApp } from "./slow-app.ts";

/** "Within a minute", of which a worker's silence takes half. */
const LOST_WITHIN_MS = 60_000;
const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Task {
  readonly status: string;
  readonly lost: boolean;
  readonly attempts: readonly { readonly worker: string; readonly outcome: string }[];
}

it("is lost within a minute, and no longer once another worker has finished it", async () => {
  const [vhost, redis] = await Promise.all([createVhost(), startRedis()]);
  cleanups.push(
    () => vhost.drop(),
    () => redis.stop(),
  );
  const pipeline = await startWholePipeline({ redisUrl: redis.url, brokerUrl: vhost.url, name: "celeryev" });
  cleanups.push(() => pipeline.close());
  let url = "";
  const web: RunningRoles = await startRoles(
    [webRole((opened) => (url = `${opened}/api/v1`))],
    { DATABASE_URL: pipeline.databaseUrl, WEB_PORT: "0", HEALTH_PORT: "0", WEB_REQUEST_TIMEOUT_SECONDS: "30" },
    createLogger("web", "silent"),
  );
  cleanups.push(() => web.stop());

  const app = slowApp();
  const start = async (hostname: string, seconds: number): Promise<CeleryWorker> => {
    const options: CeleryWorkerOptions = {
      brokerUrl: vhost.url,
      app: app.name,
      queues: [app.queue],
      hostname: `${hostname}@host`,
      concurrency: 1,
    };
    const worker = await startCeleryWorker({ ...options, env: app.env(seconds) });
    cleanups.push(() => worker.kill());
    return worker;
  };
  const doomed = await start("doomed", 600);
  const { stdout } = await promisify(execFile)(requireCeleryPython(), ["-c", app.send], {
    env: celeryEnvironment(vhost.url, app.env(0)),
  });
  const id = stdout.trim();

  const task = async (): Promise<Partial<Task>> => (await (await fetch(`${url}/tasks/${id}`)).json()) as Partial<Task>;
  const seen = async (): Promise<unknown> => {
    const { status, lost, attempts = [] } = await task();
    return { status, lost, attempts: attempts.map(({ worker, outcome }) => `${worker} ${outcome}`) };
  };
  const lostIds = async (): Promise<unknown> => {
    const { items } = (await (await fetch(`${url}/tasks?lost=true`)).json()) as { items: { task_id: string }[] };
    return items.map(({ task_id }) => task_id);
  };
  const stateOf = async (name: string): Promise<unknown> => {
    const { items } = (await (await fetch(`${url}/workers?name=${name}`)).json()) as { items: { state: string }[] };
    return items.map(({ state }) => state);
  };
  const within = { timeout: LOST_WITHIN_MS, interval: 500 };

  await expect.poll(seen, within).toEqual({ status: "STARTED", lost: false, attempts: ["doomed@host running"] });
  expect(await stateOf("doomed@host")).toEqual(["up"]);
  await doomed.kill();
  await expect.poll(seen, within).toEqual({ status: "STARTED", lost: true, attempts: ["doomed@host lost"] });
  await expect.poll(lostIds, within).toEqual([id]);
  await expect.poll(() => stateOf("doomed@host"), within).toEqual(["lost"]);

  await start("next", 0);
  await expect.poll(seen, within).toEqual({ status: "SUCCESS", lost: false, attempts: ["doomed@host lost", "next@host success"] });
  await expect.poll(lostIds, within).toEqual([]);
  expect(await stateOf("doomed@host")).toEqual(["lost"]);
  expect(await stateOf("next@host")).toEqual(["up"]);
});
