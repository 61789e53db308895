/** One task and its tree. */
import { storableText } from "@celery-metrics-exporter/db";
import { z } from "zod";
import { maySeeData } from "../access/user.ts";
import { TaskDetail } from "../queries/columns.ts";
import { TaskLink, findTask } from "../queries/find-task.ts";
import { TreeNode, readTree } from "../queries/tree.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { PROBLEMS, notFound } from "./problem.ts";

const params = z.object({ id: z.string().min(1).max(1_000).transform(storableText) });

const Task = TaskDetail.extend({
  parent: TaskLink.nullable().describe("The task that sent it; null if it is not known."),
  children: z.array(TaskLink).describe("The tasks that it sent, up to 100."),
  more_children: z.boolean(),
}).meta({ id: "Task" });

const Tree = z
  .object({
    root: z.string().describe("The id of the first task. Its row may be unknown."),
    nodes: z.array(TreeNode).describe("The tasks, earliest first. A `parent_id` may be unknown; following parents always ends."),
    truncated: z.boolean().describe("Whether there are more than 5,000 tasks."),
  })
  .meta({ id: "Tree" });

export function addTask(api: Api, context: ApiContext): void {
  api.get(
    `${PREFIX}/tasks/:id`,
    {
      config: { role: "viewer" },
      schema: { operationId: "getTask", summary: "Shows one task", params, response: { 200: Task, ...PROBLEMS } },
    },
    async ({ params: { id }, user }) => {
      const withData = maySeeData(user);
      const found = await context.recent.get(["task", withData, id], () => findTask(context.reader, id, withData));
      if (found === undefined) throw notFound("This task");
      const { task, ...around } = found;
      return { ...task, ...around, children: [...around.children] };
    },
  );
  api.get(
    `${PREFIX}/tasks/:id/tree`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "getTree",
        summary: "Shows the tree that contains a task, with the times of a waterfall",
        params,
        response: { 200: Tree, ...PROBLEMS },
      },
    },
    async ({ params: { id } }) => {
      const tree = await context.recent.get(["tree", id], () => readTree(context.reader, id));
      if (tree === undefined) throw notFound("This task");
      return tree as unknown as z.input<typeof Tree>;
    },
  );
}
