import { createSocket } from "node:dgram";
import { expect, it, vi } from "vitest";
import { countMetrics, tasksInDatadog, tasksInScrape } from "../src/sides.ts";

const PREFIXES = { metricPrefix: "celery.", queuePrefix: "demo." };
const LINES = [
  "celery.task.success_count:1:2|c|#task_name:shop.pay,queue:demo.payments",
  "celery.task.success_count:1|c|#task_name:shop.pay,queue:demo.mail",
  "celery.task.success_count:7|c|#task_name:shop.pay,queue:payments",
  "celery.task.fail_count:1|c|#task_name:shop.pay,queue:demo.payments",
  "celery.task.run_time:0.5:1.5|d|#task_name:shop.pay,queue:demo.payments",
];

it("counts the demo's tasks in Datadog, and shows the last lines", async () => {
  const metrics = await countMetrics();
  const socket = createSocket("udp4");
  try {
    for (const datagram of [LINES.slice(0, 2).join("\n"), "nonsense", LINES.slice(2).join("\n")])
      await new Promise<void>((resolve) => socket.send(datagram, metrics.port, "127.0.0.1", () => resolve()));
    await vi.waitFor(() => expect(metrics.datagrams).toBe(3));
    expect(metrics.samples).toBe(7);
    expect(metrics.recentLines).toEqual(LINES.slice(1));
    const counts = tasksInDatadog(metrics, PREFIXES);
    expect(counts.get("shop.pay", "SUCCESS")).toBe(4);
    expect(counts.get("shop.pay", "FAILURE")).toBe(1);
    expect(counts.total).toBe(5);
  } finally {
    socket.close();
    await metrics.close();
  }
});

it("counts the demo's tasks in what Prometheus scrapes", () => {
  const counts = tasksInScrape(
    [
      "# TYPE celery_task_failed_total counter",
      'celery_task_failed_total{exception="",hostname="generic",name="shop.pay",queue_name="demo.payments"} 0.0',
      'celery_task_failed_total{exception="CardDeclined",hostname="generic",name="shop.pay",queue_name="demo.payments"} 2.0',
      'celery_task_failed_total{exception="GatewayDown",hostname="generic",name="shop.pay",queue_name="demo.payments"} 1.0',
      'celery_task_failed_total{exception="SystemExit",hostname="generic",name="shop.slow",queue_name="demo.default"} 1.0',
      'celery_task_failed_total{exception="SystemExit",hostname="generic",name="shop.slow",queue_name="demo.mail"} 1.0',
      'celery_task_succeeded_total{hostname="generic",name="shop.pay",queue_name="demo.payments"} 4.0',
      'celery_task_succeeded_total{hostname="generic",name="shop.pay",queue_name="payments"} 7.0',
      'celery_task_started_total{hostname="generic",name="shop.pay",queue_name="demo.payments"} 9.0',
    ].join("\n"),
    "demo.",
  );
  expect(counts.get("shop.pay", "FAILURE")).toBe(3);
  expect(counts.get("shop.pay", "SUCCESS")).toBe(4);
  expect(counts.get("shop.slow", "FAILURE")).toBe(2);
  expect(counts.exits).toEqual(new Map([["shop.slow", 2]]));
  expect(counts.keys()).toHaveLength(3);
});
