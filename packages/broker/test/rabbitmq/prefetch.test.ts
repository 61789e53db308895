import { describe, expect, it } from "vitest";
import { Prefetch } from "../../src/rabbitmq/consumer.ts";

const OPTIONS = { messages: 8_000, bytes: 8_000_000 };

function arrive(prefetch: Prefetch, bytes: number, messages: number): boolean {
  let renew = false;
  for (let message = 0; message < messages; message += 1) renew = prefetch.arrived(bytes);
  return renew;
}

describe("Prefetch", () => {
  it("is the limit in messages before the first message, and while all of them fit", () => {
    const prefetch = new Prefetch(OPTIONS);
    expect(prefetch.begin()).toBe(8_000);
    expect(arrive(prefetch, 900, 5_000)).toBe(false);
    expect(prefetch.begin()).toBe(8_000);
  });

  it("is the number of messages that fit, by the size of the last ones", () => {
    const prefetch = new Prefetch(OPTIONS);
    arrive(prefetch, 100, 10_000);
    arrive(prefetch, 100_000, 500);
    expect(prefetch.begin()).toBe(80);
    arrive(prefetch, 10_000, 500);
    expect(prefetch.begin()).toBeCloseTo(800, -1);
  });

  it("is the number of messages that fit, by the size of those that did not", () => {
    const prefetch = new Prefetch(OPTIONS);
    arrive(prefetch, 100, 10_000);
    prefetch.overflowed(4, 400_000);
    expect(prefetch.begin()).toBe(80);
  });

  it("is never less than one", () => {
    const prefetch = new Prefetch(OPTIONS);
    arrive(prefetch, 60_000_000, 500);
    expect(prefetch.begin()).toBe(1);
  });

  it("requests a new consumer when twice or half as many messages would fit", () => {
    const prefetch = new Prefetch(OPTIONS);
    prefetch.begin();
    expect(arrive(prefetch, 1_500, 5_000)).toBe(false);
    expect(arrive(prefetch, 2_500, 1_000)).toBe(true);
    expect(prefetch.begin()).toBeCloseTo(3_200, -1);
    expect(arrive(prefetch, 1_500, 5_000)).toBe(false);
    expect(arrive(prefetch, 1_000, 1_000)).toBe(true);
  });

  it("requests it only after enough messages to be worth it", () => {
    const prefetch = new Prefetch(OPTIONS);
    prefetch.begin();
    expect(arrive(prefetch, 100_000, 200)).toBe(false);
    expect(arrive(prefetch, 100_000, 100)).toBe(true);
  });
});
