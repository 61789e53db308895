import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { expect, test } from "vitest";
import { startStatsdSink } from "../src/index.ts";

async function send(port: number, ...datagrams: readonly string[]): Promise<void> {
  const socket = createSocket("udp4");
  for (const datagram of datagrams) {
    await new Promise<void>((resolve, reject) => {
      socket.send(datagram, port, "127.0.0.1", (error) => (error === null ? resolve() : reject(error)));
    });
  }
  socket.close();
}

function lineOf(bytes: number): string {
  return `${"a".repeat(bytes - "x:1|c".length)}x:1|c`;
}

test("the sink returns metrics by name and tags, unpacked and scaled by their sample rate", async () => {
  const sink = await startStatsdSink();
  await send(sink.port, "paid:1:2|d|#queue:a\norders:2|c|@0.5|#queue:a", "paid:4|d|#queue:b,eu", "_sc|up|0");
  await sink.waitFor(({ metrics, others }) => metrics.length + others.length === 4);
  expect(sink.values("paid")).toEqual([1, 2, 4]);
  expect(sink.values("paid", ["eu", "queue:b"])).toEqual([4]);
  expect(sink.total("orders")).toBe(4);
  expect(sink.packets).toHaveLength(3);
  expect(sink.errors).toEqual([]);
  sink.clear();
  expect(sink.metrics).toEqual([]);
  await sink.close();
});

test("a datagram with an error is reported, and nothing of it counts", async () => {
  const sink = await startStatsdSink();
  await send(sink.port, "orders:1|c\norders:x|c", "orders:1|c|#a:b,a:b");
  await sink.waitFor(({ errors }) => errors.length === 2);
  expect(sink.metrics).toEqual([]);
  expect(sink.errors).toEqual([expect.stringContaining('bad number "x"'), expect.stringContaining("repeated tag")]);
  await sink.close();
});

test("a datagram over the limit is an error, one at the limit is not", async () => {
  const sink = await startStatsdSink({ maxPacketBytes: 100 });
  await send(sink.port, lineOf(100), lineOf(101));
  await sink.waitFor(({ packets }) => packets.length === 2);
  expect(sink.packets).toEqual([100, 101]);
  expect(sink.metrics).toHaveLength(1);
  expect(sink.errors).toEqual(["datagram of 101 bytes, at most 100 allowed"]);
  await sink.close();
});

test("waiting for a missing metric ends with what arrived instead", async () => {
  const sink = await startStatsdSink();
  await send(sink.port, "orders:1|c");
  await expect(sink.waitFor(({ metrics }) => metrics.length === 2, { timeoutMs: 200, what: "the second order" })).rejects.toThrow(
    /the second order did not arrive within 200 ms; received 1 metrics in 1 datagrams/,
  );
  await sink.close();
});

test("a sink with a thread loses nothing while the test is busy", async () => {
  const sink = await startStatsdSink({ thread: true });
  const sender = `
    const socket = require("node:dgram").createSocket("udp4");
    let left = 60;
    const timer = setInterval(() => {
      for (let count = 0; count < 10; count += 1) socket.send("orders:1|c", ${sink.port}, "127.0.0.1");
      left -= 1;
      if (left === 0) { clearInterval(timer); setTimeout(() => socket.close(), 100); }
    }, 10);`;
  // Blocks this process until everything is sent: more datagrams than the system's default receive buffer holds.
  execFileSync(process.execPath, ["-e", sender]);
  await sink.waitFor(() => sink.total("orders") >= 600);
  expect(sink.total("orders")).toBe(600);
  await sink.close();
});
