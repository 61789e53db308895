/** What there is: groups of failures, task types, names. */
import { storableText } from "@celery-metrics-exporter/db";
import { z } from "zod";
import { USER_ROLES, maySeeData, type User } from "../access/user.ts";
import { PROBLEMS as PROBLEM_STATUSES } from "../queries/columns.ts";
import { FailureDetails, FailureGroup, MAX_GROUPS, readEarlierFailures, readFailureDetails, readFailures } from "../queries/failures.ts";
import { RangeQuery, beginningOf, checkRange } from "../queries/filters.ts";
import { TaskType, readNames, readTaskTypes } from "../queries/names.ts";
import { KEEP_PAST_MS, PREFIX, type Api, type ApiContext } from "./api.ts";
import { PROBLEMS } from "./problem.ts";

const name = z.string().min(1, "must not be empty").max(1_000, "must have at most 1000 characters").transform(storableText).optional();
const part = z.string().max(1_000, "must have at most 1000 characters").optional();

const FailuresQuery = RangeQuery.extend({
  status: z
    .string()
    .default("FAILURE")
    .transform((value) => [...new Set(value.split(",").map((status) => status.trim().toUpperCase()))])
    .pipe(
      z
        .array(z.string())
        .refine(
          (all) => all.every((one) => PROBLEM_STATUSES.some((known) => known === one)),
          `must be one or more of ${PROBLEM_STATUSES.join(", ")}`,
        ),
    )
    .describe(`One or more of ${PROBLEM_STATUSES.join(", ")}, separated by commas.`),
  name,
  look_back: z.coerce
    .number({ error: "must be a number" })
    .int("must be a whole number")
    .min(0, "must be at least 0")
    .max(90, "must be at most 90")
    .default(0)
    .describe(
      "In how many days before the range to look for the first of each group, among 10,000 at most. These are read every five minutes.",
    ),
  limit: z.coerce
    .number({ error: "must be a number" })
    .int("must be a whole number")
    .min(1, "must be at least 1")
    .max(MAX_GROUPS, `must be at most ${MAX_GROUPS}`)
    .default(MAX_GROUPS)
    .describe("How many groups to answer, the most frequent ones."),
})
  .strict()
  .superRefine(checkRange);

const DetailsQuery = RangeQuery.extend({
  status: z.enum(PROBLEM_STATUSES as [string, ...string[]], { error: `must be one of ${PROBLEM_STATUSES.join(", ")}` }).default("FAILURE"),
  name,
  exception: part.describe("As in the group; without it, the group that has none."),
  message: part.describe("As in the group."),
})
  .strict()
  .superRefine(checkRange);

export const FailuresAnswer = z.object({
  from: z.iso.datetime().nullable().describe("The beginning of the first part: that of the range, or its oldest failure."),
  to: z.iso.datetime(),
  looked_back_to: z.iso.datetime().nullable().describe("Since when failures were looked at for `first_seen_at`."),
  groups: z.number().int().describe("How many groups there are, also beyond `limit`."),
  tasks: z.number().int().describe("How many tasks are in all groups."),
  items: z.array(FailureGroup),
  truncated: z.boolean().describe("Whether there are more than 20,000 in the range; then only the newest are counted."),
});

export const NamesAnswer = z.object({
  names: z.array(z.string()).describe("Names of tasks, in alphabetical order."),
  queues: z.array(z.string()).describe("Queues of the newest 5,000 tasks."),
  workers: z.array(z.string()).describe("Workers of the newest 5,000 tasks."),
});

/** @param query that of `/failures`; by default, the failures of the last 24 hours. */
export async function failuresOf(
  { reader, lasting, past }: ApiContext,
  user: User,
  query: z.output<typeof FailuresQuery> = FailuresQuery.parse({}),
): Promise<z.output<typeof FailuresAnswer>> {
  const { limit, ...asked } = query;
  const { status: statuses, name: ofName, to, look_back: days } = asked;
  const withData = maySeeData(user);
  const answer = await lasting.get(["failures", withData, asked], async () => {
    const from = beginningOf(asked);
    const earlier =
      from === null || days === 0
        ? undefined
        : past.get(["failures", asked], () => readEarlierFailures(reader, { statuses, name: ofName, from, days, keepMs: KEEP_PAST_MS }));
    const found = await readFailures(reader, { statuses, name: ofName, from, to, withData }, earlier);
    const { from: begin, to: end, lookedBackTo, items, ...counted } = found;
    return { from: begin ?? null, to: end, looked_back_to: lookedBackTo ?? null, items: [...items], ...counted };
  });
  return { ...answer, items: answer.items.slice(0, limit) };
}

export function namesOf({ reader, lasting }: ApiContext): Promise<z.output<typeof NamesAnswer>> {
  return lasting.get(["names"], async () => {
    const { names, queues, workers } = await readNames(reader);
    return { names: [...names], queues: [...queues], workers: [...workers] };
  });
}

export function addOverview(api: Api, context: ApiContext): void {
  const { reader, lasting } = context;
  api.get(
    `${PREFIX}/failures`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listFailures",
        summary: "Groups failures by task, exception and first line",
        querystring: FailuresQuery,
        response: { 200: FailuresAnswer, ...PROBLEMS },
      },
    },
    ({ query, user }) => failuresOf(context, user, query),
  );
  api.get(
    `${PREFIX}/failures/details`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "getFailureDetails",
        summary: "Says where the tasks of a group failed and at which attempt, and lists the newest",
        description: "Looks at the newest 2,000 tasks of this name and status in the range.",
        querystring: DetailsQuery,
        response: { 200: FailureDetails, ...PROBLEMS },
      },
    },
    ({ query, user }) => {
      const withData = maySeeData(user);
      return lasting.get(["failure-details", withData, query], () =>
        readFailureDetails(reader, {
          status: query.status,
          name: query.name,
          exception: query.exception,
          message: query.message,
          from: beginningOf(query),
          to: query.to,
          withData,
        }),
      );
    },
  );
  api.get(
    `${PREFIX}/task-types`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listTaskTypes",
        summary: "Lists the names of tasks with their newest task and failure",
        response: { 200: z.object({ items: z.array(TaskType) }), ...PROBLEMS },
      },
    },
    () => lasting.get(["task-types"], async () => ({ items: [...(await readTaskTypes(reader))] })),
  );
  api.get(
    `${PREFIX}/names`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listNames",
        summary: "Lists names of tasks, queues and workers, to complete what a user types",
        response: { 200: NamesAnswer, ...PROBLEMS },
      },
    },
    () => namesOf(context),
  );
  api.get(
    `${PREFIX}/me`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "getMe",
        summary: "Says who asks",
        response: {
          200: z.object({
            name: z.string(),
            role: z.enum(USER_ROLES),
            logout: z
              .string()
              .nullable()
              .describe("The address to which a POST logs out, relative to that of the page; null if there is no session."),
          }),
          ...PROBLEMS,
        },
      },
    },
    ({ user }) => ({ name: user.name, role: user.role, logout: user.hasSession === true ? "auth/logout" : null }),
  );
}
