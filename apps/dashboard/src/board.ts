/** bull-board on our server: which queues, what of a job is shown, and no request that leaves the machine. */
import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { FastifyAdapter } from "@bull-board/fastify";
import type { FastifyInstance } from "fastify";
import { addLoginInUrl, TAKE_LOGIN_OUT_OF_URL } from "./login-in-url.ts";
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
    const page = payload.replaceAll(LEFT_OUT, "").replace("<title>", `${TAKE_LOGIN_OUT_OF_URL}<title>`);
    reply.header("content-length", Buffer.byteLength(page));
    return page;
  });
  addLoginInUrl(server);
  boundPages(server);
  await server.register(serverAdapter.registerPlugin());
}

function asItIs(value: unknown): unknown {
  return value;
}

function toAdapter({ queue, description, isVisible }: ShownQueue, readOnly: boolean, showTaskData: boolean): BullMQAdapter {
  const adapter = new BullMQAdapter(queue, { readOnlyMode: readOnly, description });
  adapter.setVisibilityGuard(isVisible);
  const showJob = showTaskData ? asItIs : hideInJob;
  adapter.setFormatter("data", (data) => showJob(readable(data)));
  for (const field of ["returnValue", "progress"] as const) adapter.setFormatter(field, showTaskData ? asItIs : hideTaskData);
  return adapter;
}
