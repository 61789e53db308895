/** Flower's API, for scripts that were written for it: reading only. */
import { isChange, refusal } from "@celery-metrics-exporter/access";
import { storableText } from "@celery-metrics-exporter/db";
import type { FastifyInstance } from "fastify";
import { maySeeData } from "../access/user.ts";
import { Places } from "../load/shared.ts";
import { findTask } from "../queries/find-task.ts";
import { readNames } from "../queries/names.ts";
import { readQueues } from "../queries/queues.ts";
import { readWorkers } from "../queries/workers.ts";
import type { ApiContext } from "../routes/api.ts";
import { problemOf } from "../routes/problem.ts";
import { MAX_LIMIT, listFlowerTasks, toFlowerTask, type TaskQuery } from "./tasks.ts";
import { toFlowerWorker } from "./workers.ts";

const VIEWER = { config: { role: "viewer" }, schema: { hide: true } } as const;
const CONTROL_IS_OFF = "Control is not switched on: this server only reads.";
const NO_RESULTS =
  "The result backend is not read here. /api/task/info/<id> has the result as Celery reported it, and the client of Celery has it as a value.";
/** Flower knows a worker until it is restarted. */
const SILENT_HOURS = 24;
const RECENT_QUEUES_MS = 10 * 60_000;
const MAX_TEXT = 1_000;
const MAX_LISTS = 4;

type Query = Readonly<Record<string, string | readonly string[] | undefined>>;

/** Adds the routes to a server of their own, whose errors are plain text. */
export function addFlower(server: FastifyInstance, context: ApiContext): void {
  const { reader, recent, lasting } = context;
  const places = new Places(MAX_LISTS, "lists for Flower's API");
  server.setErrorHandler((thrown, request, reply) => {
    const { status, detail } = problemOf(thrown);
    if (status >= 500) context.logger.warn({ route: request.routeOptions.url, err: thrown }, "a request failed");
    // Whoever asks, and from wherever: nothing can be changed.
    const text = status === 403 && isChange(request) ? CONTROL_IS_OFF : detail;
    reply.code(status);
    if (status === 503) reply.header("retry-after", 5);
    if (request.routeOptions.url === "/api/tasks" && status === 400) return reply.type(JSON_TYPE).send(JSON.stringify({ error: text }));
    return reply.type("text/plain; charset=utf-8").send(text);
  });
  // Before the body is read: Flower takes forms too.
  server.addHook("onRequest", async (request) => {
    if (isChange(request)) throw refusal(403, CONTROL_IS_OFF);
  });
  for (const path of ["/api/worker/*", "/api/task/*"]) server.post(path, VIEWER, () => undefined);

  server.get<{ Querystring: Query }>("/api/workers", VIEWER, async ({ query }, reply) => {
    const workername = textOf(query, "workername");
    const workers = await lasting.get(["flower workers"], () => readWorkers(reader, { name: undefined, silentHours: SILENT_HOURS }));
    reply.type(JSON_TYPE);
    // As in Flower, any value means yes.
    if (textOf(query, "status") !== undefined) return objectOf(workers.map(({ name, state }) => [name, state === "up"]));
    const wanted = workername === undefined ? workers : workers.filter(({ name }) => name === workername);
    if (workername !== undefined && wanted.length === 0) throw refusal(404, `Unknown worker '${workername}'`);
    return objectOf(wanted.map((worker) => [worker.name, toFlowerWorker(worker)]));
  });

  server.get<{ Querystring: Query }>("/api/tasks", VIEWER, async ({ query, user }, reply) => {
    const asked = toTaskQuery(query);
    // Not shared: a thousand tasks with their tracebacks are too much to remember.
    const { tasks, searchedTo } = await places.run(() => listFlowerTasks(context, asked, user));
    if (searchedTo !== null) reply.header("x-searched-to", searchedTo);
    reply.type(JSON_TYPE);
    // Without a worker, Flower's lists leave it out.
    return objectOf(tasks.map(({ worker, ...task }) => [task.uuid, worker === null ? task : { ...task, worker }]));
  });

  server.get("/api/task/types", VIEWER, async (_request, reply) => {
    const { names } = await lasting.get(["flower names"], () => readNames(reader));
    return reply.type(JSON_TYPE).send(JSON.stringify({ "task-types": names }));
  });

  server.get<{ Params: { readonly "*": string } }>("/api/task/info/*", VIEWER, async ({ params, user }, reply) => {
    const id = storableText(params["*"]);
    const withData = maySeeData(user);
    const found = await recent.get(["task", withData, id], () => findTask(reader, id, withData));
    if (found === undefined) throw refusal(404, `Unknown task '${id}'`);
    const task = toFlowerTask(
      found.task,
      found.children.map(({ task_id }) => task_id),
    );
    return reply.type(JSON_TYPE).send(JSON.stringify({ ...task, "task-id": task.uuid }));
  });

  server.get("/api/task/result/*", VIEWER, async (_request, reply) => reply.code(501).type("text/plain; charset=utf-8").send(NO_RESULTS));

  server.get("/api/queues/length", VIEWER, async (_request, reply) => {
    const { items } = await recent.get(["flower queues"], () =>
      readQueues(reader, { from: new Date(Date.now() - RECENT_QUEUES_MS), stepMinutes: 1, steps: 0 }),
    );
    const queues = items.flatMap(({ name, messages }) => (messages === null ? [] : [{ name, messages }]));
    return reply.type(JSON_TYPE).send(JSON.stringify({ active_queues: queues.sort((one, other) => (one.name < other.name ? -1 : 1)) }));
  });
}

const JSON_TYPE = "application/json; charset=UTF-8";

/** JSON whose keys are in this order, even those that look like numbers, and may be `__proto__`. */
function objectOf(entries: readonly (readonly [string, unknown])[]): string {
  return `{${entries.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`).join(", ")}}`;
}

/** The last value of a parameter, as Tornado has it; undefined if it is missing or empty. */
function textOf(query: Query, name: string): string | undefined {
  const given = query[name];
  const last = typeof given === "string" ? given : given?.at(-1);
  const text = last?.trim();
  if (text !== undefined && text.length > MAX_TEXT) throw refusal(400, `${name} must have at most ${MAX_TEXT} characters.`);
  return text === "" ? undefined : text;
}

function toTaskQuery(query: Query): TaskQuery {
  const chosen = (name: string): string | undefined => {
    const text = textOf(query, name);
    return text === "All" ? undefined : text;
  };
  return {
    // As in Flower, 0 is no limit.
    limit: wholeNumber(query, "limit", MAX_LIMIT) || undefined,
    offset: wholeNumber(query, "offset", Number.MAX_SAFE_INTEGER),
    sortBy: textOf(query, "sort_by"),
    worker: chosen("workername"),
    name: chosen("taskname"),
    states: chosen("state")?.split(","),
    receivedStart: minuteOf(query, "received_start"),
    receivedEnd: minuteOf(query, "received_end"),
    search: textOf(query, "search"),
  };
}

function wholeNumber(query: Query, name: string, max: number): number {
  const text = textOf(query, name);
  if (text === undefined) return 0;
  if (!/^-?\d{1,15}$/.test(text)) throw refusal(400, `${name} must be a whole number.`);
  if (Number(text) > max) throw refusal(400, `${name} must be at most ${max}. Ask for the next tasks with offset.`);
  return Math.max(Number(text), 0);
}

function minuteOf(query: Query, name: string): number | undefined {
  const text = textOf(query, name);
  if (text === undefined) return undefined;
  const at = /^\d{4}-\d\d-\d\d \d\d:\d\d$/.test(text) ? Date.parse(`${text.replace(" ", "T")}:00Z`) : Number.NaN;
  if (Number.isNaN(at)) throw refusal(400, `${name} must be a time such as 2027-01-31 12:00.`);
  return at;
}
