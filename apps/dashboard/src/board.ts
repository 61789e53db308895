/** Sets up bull-board: the queues, the visible part of a job, and no request that leaves the machine. */
import type { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import type { FastifyInstance } from "fastify";
import { boundPages } from "./page-bounds.ts";
import { changePage } from "./page.ts";
import type { ShownQueue } from "./queues.ts";
import { hideInAnswer, hideInJob, hideTaskData, readable } from "./task-data.ts";

export interface BoardOptions {
  readonly queues: readonly ShownQueue[];
  readonly readOnly: boolean;
  readonly showTaskData: boolean;
}

export async function registerBoard(server: FastifyInstance, { queues, readOnly, showTaskData }: BoardOptions): Promise<void> {
  // Imported only here: loading them takes a third of the time in which the cli starts, and most of its commands need none.
  const [{ createBullBoard }, { BullMQAdapter: Base }, { FastifyAdapter }] = await Promise.all([
    import("@bull-board/api"),
    import("@bull-board/api/bullMQAdapter"),
    import("@bull-board/fastify"),
  ]);
  const Adapter = adapterOn(Base);
  const serverAdapter = new FastifyAdapter();
  createBullBoard({
    queues: queues.map((shown) => configured(new Adapter(shown, readOnly), shown, showTaskData)),
    serverAdapter,
    options: {
      uiConfig: {
        boardTitle: "Exporter queues",
        hideDocsLink: true,
      },
      ...(showTaskData ? {} : { handlerHooks: { after: ({ route }, answer) => ({ ...answer, body: hideInAnswer(route, answer.body) }) } }),
    },
  });
  changePage(server);
  boundPages(server);
  await server.register(serverAdapter.registerPlugin());
}

function asItIs(value: unknown): unknown {
  return value;
}

/** "No workers" is an alarm, so it is shown only for a queue whose jobs wait for a worker. Null if it is not known. */
function adapterOn(Base: typeof BullMQAdapter): new (shown: ShownQueue, readOnly: boolean) => BullMQAdapter {
  return class extends Base {
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

    /** No worker processes a letter, so letters have only one state. */
    override getStatuses(): ReturnType<BullMQAdapter["getStatuses"]> {
      return this.#isWorkedThrough ? super.getStatuses() : ["latest", "waiting"];
    }
  };
}

function configured(adapter: BullMQAdapter, shown: ShownQueue, showTaskData: boolean): BullMQAdapter {
  adapter.setVisibilityGuard(shown.isVisible);
  const showJob = showTaskData ? asItIs : hideInJob;
  adapter.setFormatter("data", (data) => showJob(readable(data)));
  for (const field of ["returnValue", "progress"] as const) adapter.setFormatter(field, showTaskData ? asItIs : hideTaskData);
  return adapter;
}
