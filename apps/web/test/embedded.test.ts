/** The API over a database that is embedded in the process, and shared with the exporter that writes it. */
import { connectDatabase } from "@celery-metrics-exporter/db";
import { createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { expect, it } from "vitest";
import { webRole } from "../src/web.ts";

it("answers like one over PostgreSQL", async () => {
  const env = { DATABASE_URL: "pglite:memory", WEB_PORT: "0", HEALTH_PORT: "0" };
  const database = await connectDatabase({ url: env.DATABASE_URL });
  let url = "";
  const running = await startRoles([webRole((opened) => (url = `${opened}/api/v1`))], env, createLogger("web", "silent"));
  try {
    await database.drizzle.execute(
      sql`insert into celery_task (task_id, name, status, sent_at, state_at, last_event_at, state_precedence, state_rank, state_hostname, root_id, parent_id, kwargs_json, exception)
          select 'task-' || n, 'shop.pay', case when n % 2 = 0 then 'FAILURE' else 'SUCCESS' end, now() - n * interval '1 minute', now(), now(), 2, 1, 'w1', 'task-1',
                 case when n > 1 then 'task-1' end, '{"big": 12345678901234567890}', 'Boom(1)' from generate_series(1, 5) n`,
    );
    const ask = async (path: string): Promise<unknown> => (await fetch(`${url}/${path}`)).json();
    expect(await ask("tasks?status=FAILURE")).toMatchObject({ items: [{ task_id: "task-2" }, { task_id: "task-4" }], next: null });
    expect(await ask("tasks?kwargs.big=12345678901234567890&limit=1")).toMatchObject({
      items: [{ task_id: "task-1", seen_at: expect.stringMatching(/\.\d{6}Z$/) as string }],
    });
    expect(await ask("tasks?text=PAY&limit=2")).toMatchObject({ items: [{ task_id: "task-1" }, { task_id: "task-2" }] });
    expect(await (await fetch(`${url}/tasks/task-1`)).text()).toMatch(/"kwargs_json":\{"big": ?12345678901234567890\}/);
    expect(await ask("tasks/task-3/tree")).toMatchObject({ root: "task-1", nodes: [{}, {}, {}, {}, {}], truncated: false });
    expect(await ask("failures")).toMatchObject({ items: [{ count: 2, exception: "Boom", message: "#" }] });
    expect(await ask("names")).toMatchObject({ names: ["shop.pay"] });
    expect(await ask("task-types")).toMatchObject({ items: [{ name: "shop.pay", last_task_id: "task-1", last_failure_id: "task-2" }] });
    expect((await (await fetch(`${url}/tasks.csv`)).text()).trimEnd().split("\r\n")).toHaveLength(6);
  } finally {
    await running.stop();
    await database.close();
  }
});
