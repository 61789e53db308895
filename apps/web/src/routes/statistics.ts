/** Counts and percentiles over time, workers, queues, and what is missing in the data. */
import { readStatistics, storableText } from "@celery-metrics-exporter/db";
import { z } from "zod";
import { maySeeData } from "../access/user.ts";
import { DataHealth, readDataHealth } from "../queries/data-health.ts";
import { RangeQuery, beginningOf, checkRange } from "../queries/filters.ts";
import { Lately, Waiting, readLately, readOldest, readSent, readWaiting } from "../queries/queue-flow.ts";
import { Queue, Unacked, readQueues } from "../queries/queues.ts";
import { StatisticsItem, toItem } from "../queries/statistics.ts";
import { TypeTrend, readCountedSince, readTypeTrends } from "../queries/type-trends.ts";
import { WorkerActivity, readWorkerActivity } from "../queries/worker-activity.ts";
import { Worker, readWorkers } from "../queries/workers.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { PROBLEMS, wrongParameter } from "./problem.ts";

const STEP = /^([1-9]\d{0,3})([mhd])$/;
const UNIT_MINUTES = { m: 1, h: 60, d: 1_440 };

const step = z.string().regex(STEP, "must be a number of minutes, hours or days, such as 5m, 1h or 1d");

/** @throws {Error} with the status 400 if there are too many steps. */
function toMinutes(
  value: string,
  { from, to }: { readonly from: Date; readonly to: Date },
): { readonly minutes: number; readonly steps: number } {
  const [, count, unit] = STEP.exec(value) ?? [];
  const minutes = Number(count) * UNIT_MINUTES[unit as keyof typeof UNIT_MINUTES];
  const steps = Math.ceil((to.getTime() - from.getTime()) / 60_000 / minutes);
  if (steps > MAX_STEPS) throw wrongParameter("step", `The range has ${steps} of these steps; at most ${MAX_STEPS} are answered.`);
  return { minutes, steps };
}

const MAX_STEPS = 1_500;
const MAX_DAYS = 400;

const text = z.string().max(1_000, "must have at most 1000 characters").transform(storableText);
const texts = z.union([text, z.array(text).max(20)], "must be at most 20 texts").transform((value) => [value].flat());
const GROUPS = ["name", "queue", "status"] as const;

const StatisticsQuery = RangeQuery.extend({
  step: step.optional().describe("The width of the steps, such as `5m`, `1h` or `1d`. Without it, one result for the whole range."),
  by: z
    .string()
    .transform((value) => value.split(",").map((group) => group.trim()))
    .pipe(z.array(z.enum(GROUPS, { error: `must be one or more of ${GROUPS.join(", ")}, separated by commas` })))
    .default([])
    .describe("Separate results for each `name`, `queue` or `status`; several are separated by commas."),
  name: texts.optional(),
  queue: texts.optional(),
  status: texts.optional(),
})
  .strict()
  .superRefine(checkRange);

export const StatisticsAnswer = z.object({
  from: z.iso.datetime(),
  to: z.iso.datetime(),
  rolled_up_at: z.iso.datetime().nullable().describe("When the counts were last brought up to date; null if never."),
  items: z.array(StatisticsItem).describe("In the order of time; within a step, the most frequent first. At most 10,000."),
});

export const TrendsAnswer = z.object({
  from: z.iso.datetime().describe("The beginning of the first step."),
  to: z.iso.datetime(),
  step_seconds: z.number().int(),
  days_before: z.number().int().describe("How many days before is the range of `mean_before`: 7, or as many weeks as the range is long."),
  counted_since: z.iso
    .datetime()
    .nullable()
    .describe("When the first task of all was counted; null if none was. Nothing is known of the time before."),
  items: z.array(TypeTrend).describe("At most 1,000, the most frequent first."),
});

const WorkersQuery = z
  .object({
    name: text.optional().describe("Only this one, however long it has been silent."),
    silent_hours: z.coerce
      .number({ error: "must be a number" })
      .min(0, "must be at least 0")
      .max(100_000, "must be at most 100000")
      .default(24)
      .describe("Workers that were silent for longer are left out."),
  })
  .strict();

export const WorkersAnswer = z.object({ items: z.array(Worker).describe("At most 1,000: lost ones first.") });

const ActivityQuery = z.object({ name: text.optional().describe("Only this one, with more about it.") }).strict();

const ACTIVITY = { minutes: 180, stepMinutes: 5 };

export const ActivityAnswer = z.object({
  from: z.iso.datetime().describe("The beginning of the first step: three hours ago."),
  step_seconds: z.number().int(),
  failed_since: z.iso.datetime().describe("24 hours ago, or later if more than 20,000 tasks have failed since."),
  items: z.array(WorkerActivity).describe("At most 1,000, the most active first. Also workers without heartbeats."),
});

const QueuesQuery = RangeQuery.pick({ range: true })
  .extend({ range: RangeQuery.shape.range.unwrap().default("3h"), step: step.default("3m") })
  .strict();

const WaitingQuery = z
  .object({
    name: text.describe("The queue."),
    messages: z.coerce
      .number({ error: "must be a number" })
      .int("must be a whole number")
      .min(0, "must be at least 0")
      .max(Number.MAX_SAFE_INTEGER, `must be at most ${Number.MAX_SAFE_INTEGER}`)
      .describe("How many messages it has, as `/queues` says."),
  })
  .strict();

export const QueuesAnswer = z.object({
  from: z.iso.datetime().describe("The beginning of the first step of `lengths`."),
  step_seconds: z.number().int(),
  items: z
    .array(
      Queue.extend({
        sent: z.array(z.number().int()).nullable().describe("Tasks that were sent to it in each step; null if no `task-sent` names it."),
        lately: Lately.describe("How it changed in the last 15 minutes, whatever the range."),
        oldest_at: z.iso
          .datetime()
          .nullable()
          .describe(
            "Since when the oldest task waits in it, as far as events tell: since it was sent, or since its ETA if that is later. Of those that no worker has received, as many as there are messages wait, the newest. Null if nothing waits, or for more than three days, and beyond the 50 longest queues.",
          ),
      }).meta({ id: "QueueFlow" }),
    )
    .describe("Queues that were observed in the range, the longest first."),
  unacked: Unacked.nullable().describe("Of all queues together; null if it is not known."),
});

function rangeOf(query: RangeQuery): { readonly from: Date; readonly to: Date } {
  const to = query.to === undefined ? new Date() : new Date(query.to);
  const earliest = new Date(to.getTime() - MAX_DAYS * 86_400_000);
  const from = new Date(beginningOf(query) ?? earliest);
  return { from: from < earliest ? earliest : from, to };
}

export function dataHealthOf({ reader, lasting }: ApiContext): Promise<DataHealth> {
  return lasting.get(["health-of-data"], () => readDataHealth(reader));
}

export function addStatistics(api: Api, context: ApiContext): void {
  const { reader, recent, lasting } = context;
  api.get(
    `${PREFIX}/statistics`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "getStatistics",
        summary: "Counts tasks, with percentiles of run and wait times",
        description:
          "Tasks are counted in the minute in which they were first seen. The counts outlive the rows of the tasks. Minutes are kept for 30 days (`POSTGRES_STATISTICS_MINUTE_DAYS`); before, steps are an hour at least.",
        querystring: StatisticsQuery,
        response: { 200: StatisticsAnswer, ...PROBLEMS },
      },
    },
    ({ query }) => {
      const { by, name: names, queue: queues, status: statuses } = query;
      const { from, to } = rangeOf(query);
      const minutes = query.step === undefined ? undefined : toMinutes(query.step, { from, to }).minutes;
      return recent.get(["statistics", query], async () => {
        const options = { from, to, step: minutes, by, names, queues, statuses };
        const { rolledUpAt, items } = await readStatistics((statement) => reader.read(statement), options);
        return { from: from.toISOString(), to: to.toISOString(), rolled_up_at: rolledUpAt ?? null, items: items.map(toItem) };
      });
    },
  );
  api.get(
    `${PREFIX}/task-types/trends`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listTaskTypeTrends",
        summary: "Says how often each task type ran over time, and whether it runs longer than a week before",
        querystring: RangeQuery.strict().superRefine(checkRange),
        response: { 200: TrendsAnswer, ...PROBLEMS },
      },
    },
    ({ query }) =>
      lasting.get(["task-type-trends", query], async () => {
        const { from, to } = rangeOf(query);
        const [{ from: begin, stepMinutes, daysBefore, items }, counted_since] = await Promise.all([
          readTypeTrends(reader, { from, to }),
          readCountedSince(reader),
        ]);
        const times = { from: begin.toISOString(), to: to.toISOString(), step_seconds: stepMinutes * 60, days_before: daysBefore };
        return { ...times, counted_since, items };
      }),
  );
  api.get(
    `${PREFIX}/workers`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listWorkers",
        summary: "Lists workers and whether they are alive",
        querystring: WorkersQuery,
        response: { 200: WorkersAnswer, ...PROBLEMS },
      },
    },
    ({ query }) =>
      recent.get(["workers", query], async () => ({
        items: await readWorkers(reader, { name: query.name, silentHours: query.silent_hours }),
      })),
  );
  api.get(
    `${PREFIX}/workers/activity`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listWorkerActivity",
        summary: "Says how many tasks each worker took, and how many failed",
        description: "From samples of the tasks of each minute. Exact where a minute has at most 200 tasks.",
        querystring: ActivityQuery,
        response: { 200: ActivityAnswer, ...PROBLEMS },
      },
    },
    ({ query }) =>
      lasting.get(["worker-activity", query], async () => {
        const { minutes, stepMinutes } = ACTIVITY;
        const stepMs = stepMinutes * 60_000;
        const from = new Date(Math.ceil((Date.now() - minutes * 60_000) / stepMs) * stepMs);
        const { failedSince, items } = await readWorkerActivity(reader, {
          from,
          stepMinutes,
          steps: minutes / stepMinutes,
          name: query.name,
        });
        return { from: from.toISOString(), step_seconds: stepMinutes * 60, failed_since: failedSince, items };
      }),
  );
  api.get(
    `${PREFIX}/queues`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listQueues",
        summary: "Lists queues with their lengths over time",
        description: "The role `monitor` asks the broker. Without it, there are none.",
        querystring: QueuesQuery,
        response: { 200: QueuesAnswer, ...PROBLEMS },
      },
    },
    ({ query }) => {
      const range = rangeOf({ ...query, from: undefined, to: undefined });
      const { minutes } = toMinutes(query.step, range);
      // Steps begin at whole ones, so that they stay the same as time goes on. The first one is in the range, unless the range has room for none.
      const stepMs = minutes * 60_000;
      const place = range.from.getTime() / stepMs;
      const from = new Date((Math.ceil(place) + 1 > range.to.getTime() / stepMs ? Math.floor(place) : Math.ceil(place)) * stepMs);
      const steps = Math.ceil((range.to.getTime() - from.getTime()) / stepMs);
      return recent.get(["queues", query], async () => {
        const options = { from, stepMinutes: minutes, steps };
        const [{ items, unacked }, sent] = await Promise.all([readQueues(reader, options), readSent(reader, options)]);
        const lengths = items.map(({ name, messages }) => ({ name, messages: messages ?? 0 }));
        const [oldest, latelyOf] = await Promise.all([readOldest(reader, lengths), readLately(reader)]);
        return {
          from: from.toISOString(),
          step_seconds: minutes * 60,
          items: items.map((queue) => ({
            ...queue,
            sent: sent.get(queue.name) ?? null,
            lately: latelyOf(queue.name, sent.has(queue.name)),
            oldest_at: oldest.get(queue.name) ?? null,
          })),
          unacked,
        };
      });
    },
  );
  api.get(
    `${PREFIX}/queues/waiting`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listWaiting",
        summary: "Says what waits in a queue, by events",
        querystring: WaitingQuery,
        response: { 200: Waiting, ...PROBLEMS },
      },
    },
    ({ query, user }) => {
      const withData = maySeeData(user);
      return recent.get(["waiting", withData, query], () => readWaiting(reader, query, withData));
    },
  );
  api.get(
    `${PREFIX}/health-of-data`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "getHealthOfData",
        summary: "Says what is missing in the data",
        response: { 200: DataHealth, ...PROBLEMS },
      },
    },
    () => dataHealthOf(context),
  );
}
