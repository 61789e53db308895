import { describe, expect, it } from "vitest";
import { Watermark } from "../../src/redis/broadcast-buffer.ts";

describe("Watermark", () => {
  it("guarantees nothing after its start until a probe is answered", () => {
    const watermark = new Watermark(100);
    watermark.done(watermark.arrived());
    expect(watermark.safeUntil).toBe(100);
  });

  it("advances to the last answered probe when everything is done", () => {
    const watermark = new Watermark(100);
    watermark.done(watermark.arrived());
    watermark.heardUntil(200);
    watermark.done(watermark.arrived());
    watermark.heardUntil(300);
    expect(watermark.safeUntil).toBe(300);
  });

  it("stays at the probe before the oldest message that is not done, in any order of the others", () => {
    const watermark = new Watermark(0);
    watermark.heardUntil(100);
    const [first, second] = [watermark.arrived(), watermark.arrived()];
    watermark.heardUntil(200);
    const third = watermark.arrived();
    watermark.heardUntil(300);
    watermark.done(third);
    watermark.done(second);
    expect(watermark.safeUntil).toBe(100);
    watermark.heardUntil(400);
    expect(watermark.safeUntil).toBe(100);
    watermark.done(first);
    expect(watermark.safeUntil).toBe(400);
  });

  it("counts a message as published after the last probe answered before its arrival", () => {
    const watermark = new Watermark(0);
    watermark.heardUntil(100);
    watermark.heardUntil(200);
    const late = watermark.arrived();
    watermark.heardUntil(300);
    expect(watermark.safeUntil).toBe(200);
    watermark.done(late);
    expect(watermark.safeUntil).toBe(300);
  });
});
