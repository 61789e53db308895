import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { connectDatabase, migrate, rollUp, upsertTasks } from "@celery-metrics-exporter/db";
import { startPostgres } from "@celery-metrics-exporter/testkit";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
const postgres = await startPostgres({});
await migrate(postgres.url);
const database = await connectDatabase({ url: postgres.url, poolSize: 2 });
const now = Date.now() / 1000;
for (let b = 0; b < 4; b++) {
  const ev = Array.from({ length: 5000 }, (_, i) => { const uuid = randomUUID(); const at = now - (b * 5000 + i) * 0.2; const hostname = `w${i % 4}@host`; const name = ["shop.charge_card","shop.resize_image","shop.send_order_mail","shop.deliver_webhook"][i % 4]!;
    return [taskSent({ uuid, name, queue: "payments", hostname: "gen@host", timestamp: at - 0.02, args: "('upload/48216/IMG_0142.jpg', 1600)" }), taskReceived({ uuid, name, hostname, timestamp: at - 0.01 }), taskStarted({ uuid, hostname, timestamp: at }), taskSucceeded({ uuid, hostname, timestamp: at + 0.5, runtime: 0.5, result: "'done'" })]; }).flat();
  await upsertTasks(database, ev, "unusual");
}
await rollUp(database, { all: true });
writeFileSync("/tmp/site.url", postgres.url);
console.log("ready");
setInterval(() => {}, 1e6);
