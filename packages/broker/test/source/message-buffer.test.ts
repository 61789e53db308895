import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { MessageBuffer } from "../../src/source/message-buffer.ts";

interface Message {
  readonly id: number;
  readonly bytes: number;
}

const message = (id: number, bytes = 10): Message => ({ id, bytes });

function bufferOf(maxBytes?: number): { readonly buffer: MessageBuffer<Message>; readonly got: number[] } {
  const got: number[] = [];
  const handOver = ({ id }: Message): void => void got.push(id);
  return { buffer: new MessageBuffer({ handOver, messagesPerTurn: 64, ...(maxBytes !== undefined && { maxBytes }) }), got };
}

async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await nextTurn();
}

describe("MessageBuffer", () => {
  it("hands over in order, never within push", async () => {
    const { buffer, got } = bufferOf();
    for (let id = 0; id < 500; id++) buffer.push(message(id));
    expect(got).toEqual([]);
    await turns();
    expect(got).toEqual(Array.from({ length: 500 }, (_, id) => id));
    expect(buffer.size).toBe(0);
    expect(buffer.bytes).toBe(0);
  });

  it("knows the message that waits longest", async () => {
    const { buffer } = bufferOf();
    expect(buffer.oldest).toBeUndefined();
    buffer.pause();
    for (const id of [1, 2, 3]) buffer.push(message(id));
    await turns();
    expect(buffer.oldest?.id).toBe(1);
    buffer.resume();
    await turns();
    expect(buffer.oldest).toBeUndefined();
  });

  it("lets the event loop run between portions, so that sockets are read", async () => {
    const { buffer, got } = bufferOf();
    for (let id = 0; id < 500; id++) buffer.push(message(id));
    await turns(2);
    expect(got.length).toBeGreaterThanOrEqual(64);
    expect(got.length % 64).toBe(0);
    expect(got.length).toBeLessThan(500);
  });

  it("rejects messages that do not fit, and accepts them again once there is room", async () => {
    const { buffer, got } = bufferOf(25);
    expect([1, 2, 3].map((id) => buffer.push(message(id)))).toEqual([true, true, false]);
    await turns();
    expect(buffer.push(message(4))).toBe(true);
    await turns();
    expect(got).toEqual([1, 2, 4]);
  });

  it("accepts a message larger than the bound if it is empty", async () => {
    const { buffer, got } = bufferOf(25);
    expect(buffer.push(message(1, 100))).toBe(true);
    expect(buffer.push(message(2))).toBe(false);
    await turns();
    expect(got).toEqual([1]);
  });

  it("hands over nothing while paused, and clear removes the rest", async () => {
    const { buffer, got } = bufferOf();
    buffer.push(message(1));
    buffer.pause();
    buffer.push(message(2));
    await turns();
    expect(got).toEqual([]);
    expect(buffer.bytes).toBe(20);
    expect(buffer.clear().map(({ id }) => id)).toEqual([1, 2]);
    buffer.resume();
    await turns();
    expect(got).toEqual([]);
    expect(buffer.bytes).toBe(0);
  });

  it("reports when it is empty, at once if it already is", async () => {
    const { buffer, got } = bufferOf();
    await buffer.empty();
    buffer.push(message(1));
    await buffer.empty();
    expect(got).toEqual([1]);
  });

  it("keeps order and memory over many rounds", async () => {
    const { buffer, got } = bufferOf();
    for (let id = 0; id < 20_000; id++) {
      buffer.push(message(id));
      if (id % 97 === 0) await nextTurn();
    }
    await buffer.empty();
    expect(got).toEqual(Array.from({ length: 20_000 }, (_, id) => id));
  });

  it("after hold, hands over the messages it had and keeps later ones until released", async () => {
    const { buffer, got } = bufferOf();
    for (let id = 0; id < 200; id++) buffer.push(message(id));
    buffer.hold();
    buffer.push(message(200));
    buffer.hold();
    await turns();
    expect(got).toHaveLength(200);
    buffer.push(message(201));
    await turns();
    expect(got).toHaveLength(200);
    buffer.release();
    await turns();
    expect(got.slice(-2)).toEqual([200, 201]);
    buffer.push(message(202));
    await turns();
    expect(got.at(-1)).toBe(202);
  });

  it("removes only kept messages, oldest first, and then reports that it is empty", async () => {
    const { buffer, got } = bufferOf();
    buffer.pause();
    buffer.push(message(1));
    buffer.hold();
    for (const id of [2, 3, 4]) buffer.push(message(id));
    expect(buffer.takeKept(() => true)).toEqual([]);
    buffer.resume();
    await turns();
    expect(got).toEqual([1]);
    expect(buffer.takeKept(({ id }) => id < 4).map(({ id }) => id)).toEqual([2, 3]);
    expect(buffer.bytes).toBe(10);
    const emptied = buffer.empty();
    buffer.takeKept(() => true);
    await emptied;
    expect(got).toEqual([1]);
  });

  it("makes room for a new message by removing the oldest kept ones", () => {
    const { buffer } = bufferOf(35);
    buffer.hold();
    for (const id of [1, 2, 3]) buffer.push(message(id));
    expect(buffer.push(message(4, 20))).toBe(false);
    expect(buffer.makeRoom(20).map(({ id }) => id)).toEqual([1, 2]);
    expect(buffer.push(message(4, 20))).toBe(true);
    expect(buffer.makeRoom(100).map(({ id }) => id)).toEqual([3, 4]);
    expect(buffer.bytes).toBe(0);
  });

  it("keeps the newest messages at any length, while the oldest make room", () => {
    const { buffer } = bufferOf(100);
    buffer.hold();
    let refused = 0;
    for (let id = 0; id < 50_000; id++) {
      buffer.makeRoom(10);
      if (!buffer.push(message(id))) refused += 1;
    }
    expect(refused).toBe(0);
    expect(buffer.size).toBe(10);
    expect(buffer.clear().map(({ id }) => id)).toEqual(Array.from({ length: 10 }, (_, index) => 49_990 + index));
  });
});
