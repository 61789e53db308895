/** Answers a list's query: the same for pages, exports and live views. */
import { z } from "zod";
import { maySeeData, type User } from "../access/user.ts";
import type { TaskItem } from "../queries/columns.ts";
import { decodeCursor, encodeCursor } from "../queries/cursor.ts";
import { TaskFilters, beginningOf, filtersOnData, planOf, withArguments, type Filters } from "../queries/filters.ts";
import { isSearch, listTasks, type ListOptions, type Page } from "../queries/list-tasks.ts";
import type { ApiContext } from "./api.ts";
import { wrongParameter } from "./problem.ts";

/** The filters alone. */
export const FilterQuery = withArguments(TaskFilters);

export const PageQuery = withArguments(
  TaskFilters.extend({
    limit: z.coerce
      .number({ error: "must be a number" })
      .int("must be a whole number")
      .min(1, "must be at least 1")
      .max(200, "must be at most 200")
      .default(50)
      .describe("The most tasks on a page."),
    cursor: z.string().max(4_000, "is too long").optional().describe("`next` of the page before, with the same filters."),
    count: z
      .enum(["true", "false"], { error: "must be true or false" })
      .default("false")
      .describe("Whether to count the tasks of all pages, up to 10,000."),
  }),
);

/** What to list, for this user. @throws {Error} with the status 403 if a filter would tell a viewer about the data of tasks. */
export function toListOptions(filters: Filters, user: User): Omit<ListOptions, "limit" | "after"> {
  const withData = maySeeData(user);
  const [forbidden] = withData ? [] : filtersOnData(filters);
  if (forbidden !== undefined) throw wrongParameter(forbidden, "A viewer may not search in the data of tasks.", 403);
  return { plan: planOf(filters, withData), from: beginningOf(filters), to: filters.to, withData };
}

/** Runs a list in a place for searches, if it needs one. */
export function runList({ reader, searches }: ApiContext, options: ListOptions): Promise<Page> {
  const run = (): Promise<Page> => listTasks(reader, options);
  return isSearch(options.plan) ? searches.run(run) : run();
}

export interface PageRequest {
  readonly filters: Filters;
  readonly limit: number;
  readonly cursor: string | undefined;
}

export async function readPage(
  context: ApiContext,
  { filters, limit, cursor }: PageRequest,
  user: User,
): Promise<{ readonly items: TaskItem[]; readonly next: string | null; readonly searched_to: string | null }> {
  const options = toListOptions(filters, user);
  const place = cursor === undefined ? undefined : decodeCursor(cursor, filters);
  if (cursor !== undefined && place === undefined) throw wrongParameter("cursor", "The cursor does not belong to these filters.");
  // Later pages have the range of the first one, although time goes on.
  const from = place === undefined ? options.from : place.from;
  const page = await runList(context, { ...options, from, limit, after: place?.after });
  const next = page.next === undefined ? null : encodeCursor({ after: page.next, from }, filters);
  return { items: [...page.items], next, searched_to: page.searchedTo };
}
