import { connectDatabase } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { countRows } from "../src/report/count-rows.ts";
import { isNews, renderEnd, renderSummary, toFields, type Summary } from "../src/report/summary.ts";

const SUMMARY: Summary = {
  events: 1_260,
  taskEvents: 900,
  eventsPerSecond: 12.64,
  rejected: 0,
  lagSeconds: 0.32,
  rows: new Map([
    ["FAILURE", 5],
    ["SUCCESS", 1_310],
  ]),
  sent: undefined,
};

describe("a summary", () => {
  it("is one line", () => {
    expect(renderSummary(SUMMARY)).toBe("1,260 events (12.6/s); 1,315 rows: FAILURE 5, SUCCESS 1,310; lag 0.3 s; 0 rejected");
    expect(renderSummary({ ...SUMMARY, rows: "many", sent: new Map([["SUCCESS", 7]]) })).toBe(
      "1,260 events (12.6/s); more than 100,000 rows; 7 tasks sent to Datadog: SUCCESS 7; lag 0.3 s; 0 rejected",
    );
    expect(renderEnd(SUMMARY, 125.7)).toBe("Stopped after 2 min 5 s: 1,260 events; 1,315 rows: FAILURE 5, SUCCESS 1,310; 0 rejected.");
    expect(renderEnd({ ...SUMMARY, rows: undefined }, 7_260)).toBe("Stopped after 2 h 1 min: 1,260 events; 0 rejected.");
    expect(toFields(SUMMARY)).toMatchObject({ events: 1_260, rows: { FAILURE: 5, SUCCESS: 1_310 } });
  });

  it("is news when anything but heartbeats has come, and while events wait", () => {
    const heartbeats = { ...SUMMARY, events: 1_300, eventsPerSecond: 0.5, lagSeconds: 0.1 };
    expect(isNews(SUMMARY, undefined, 10)).toBe(true);
    expect(isNews(heartbeats, SUMMARY, 10)).toBe(false);
    expect(isNews({ ...heartbeats, taskEvents: 901 }, SUMMARY, 10)).toBe(true);
    expect(isNews({ ...heartbeats, rejected: 1 }, SUMMARY, 10)).toBe(true);
    expect(isNews({ ...heartbeats, lagSeconds: 12 }, SUMMARY, 10)).toBe(true);
    expect(isNews({ ...heartbeats, rows: new Map([["SUCCESS", 1_315]]) }, SUMMARY, 10)).toBe(true);
  });

  it("counts the rows of the table, up to a bound", async () => {
    const database = await connectDatabase({ url: "pglite:memory" });
    try {
      expect(await countRows(database)).toEqual(new Map());
      // Found before the real one, whose other columns do not matter here.
      await database.drizzle.execute(sql`create temporary table celery_task (status text)`);
      const insert = async (status: string, rows: number): Promise<unknown> =>
        await database.drizzle.execute(sql`insert into celery_task select ${status} from generate_series(1, ${rows}::int)`);
      await insert("SUCCESS", 3);
      await insert("FAILURE", 1);
      expect(await countRows(database)).toEqual(
        new Map([
          ["FAILURE", 1],
          ["SUCCESS", 3],
        ]),
      );
      await insert("SUCCESS", 99_996);
      expect(await countRows(database)).toHaveProperty("size", 2);
      await insert("SUCCESS", 1);
      expect(await countRows(database)).toBeUndefined();
    } finally {
      await database.close();
    }
  });
});
