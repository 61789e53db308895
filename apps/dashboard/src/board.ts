/** bull-board on our server: which queues, what of a job is shown, and no request that leaves the machine. */
import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { FastifyAdapter } from "@bull-board/fastify";
import type { FastifyInstance } from "fastify";
import { addLoginInUrl, TAKE_LOGIN_OUT_OF_URL } from "./login-in-url.ts";
import { OWN_STYLES, addOwnStyles } from "./own-styles.ts";
import { boundPages } from "./page-bounds.ts";
import type { ShownQueue } from "./queues.ts";
import { hideInAnswer, hideInJob, hideTaskData, readable } from "./task-data.ts";

export interface BoardOptions {
  readonly queues: readonly ShownQueue[];
  readonly readOnly: boolean;
  readonly showTaskData: boolean;
}

/**
 * bull-board's page loads its fonts from a server of Google's; the dashboard loads nothing from elsewhere. Its style element only moves three
 * dots until the page is there, and would have to be allowed.
 */
const LEFT_OUT = /<link href="https:\/\/fonts\.googleapis\.com[^>]*>\s*|<style>.*?<\/style>/gs;

export async function registerBoard(server: FastifyInstance, { queues, readOnly, showTaskData }: BoardOptions): Promise<void> {
  const serverAdapter = new FastifyAdapter();
  createBullBoard({
    queues: queues.map((shown) => toAdapter(shown, readOnly, showTaskData)),
    serverAdapter,
    options: {
      uiConfig: {
        boardTitle: "Exporter queues",
        hideDocsLink: true,
      },
      ...(showTaskData ? {} : { handlerHooks: { after: ({ route }, answer) => ({ ...answer, body: hideInAnswer(route, answer.body) }) } }),
    },
  });
  server.addHook("onSend", async (_request, reply, payload) => {
    const isPage =
      reply.statusCode === 200 && typeof payload === "string" && String(reply.getHeader("content-type")).startsWith("text/html");
    if (!isPage) return payload;
    const page = payload.replaceAll(LEFT_OUT, "").replace("<title>", `${TAKE_LOGIN_OUT_OF_URL}${OWN_STYLES}<title>`);
    reply.header("content-length", Buffer.byteLength(page));
    return page;
  });
  addLoginInUrl(server);
  addOwnStyles(server);
  boundPages(server);
  await server.register(serverAdapter.registerPlugin());
}

function asItIs(value: unknown): unknown {
  return value;
}

/** "No workers" is an alarm, so it is said only of a queue whose jobs wait for one. Null: nobody can tell. */
class Adapter extends BullMQAdapter {
  readonly #isWorkedThrough: boolean;

  constructor({ queue, description, isWorkedThrough }: ShownQueue, readOnlyMode: boolean) {
    super(queue, { readOnlyMode, description });
    this.#isWorkedThrough = isWorkedThrough;
  }

  override async getWorkers(): ReturnType<BullMQAdapter["getWorkers"]> {
    if (!this.#isWorkedThrough) return null;
    const workers = await super.getWorkers();
    if (workers === null || workers.length > 0) return workers;
    const counts = await this.getJobCounts();
    return (["waiting", "active", "delayed", "prioritized"] as const).some((state) => (counts[state] ?? 0) > 0) ? workers : null;
  }

  /** A letter is never worked on, so that it has one state only. */
  override getStatuses(): ReturnType<BullMQAdapter["getStatuses"]> {
    return this.#isWorkedThrough ? super.getStatuses() : ["latest", "waiting"];
  }
}

function toAdapter(shown: ShownQueue, readOnly: boolean, showTaskData: boolean): BullMQAdapter {
  const adapter = new Adapter(shown, readOnly);
  adapter.setVisibilityGuard(shown.isVisible);
  const showJob = showTaskData ? asItIs : hideInJob;
  adapter.setFormatter("data", (data) => showJob(readable(data)));
  for (const field of ["returnValue", "progress"] as const) adapter.setFormatter(field, showTaskData ? asItIs : hideTaskData);
  return adapter;
}
