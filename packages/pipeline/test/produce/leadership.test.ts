import { setTimeout as sleep } from "node:timers/promises";
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Leadership, type LeadershipClaim, type LeadershipAnswer } from "../../src/index.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const WAIT = { timeout: 20_000, interval: 20 };

/** Receivers of one stream. A lease that is to expire within a test lasts 400 ms. */
function place(ttlMs = 60_000): () => Leadership {
  const options = { prefix: `{${randomUUID()}}`, stream: "redis://broker:6379/0 celeryev", ttlMs };
  return () => new Leadership({ redis: redis.producer, ...options });
}

/** The claims of a receiver that has heard everything, and of one that has just started. */
const complete = (): LeadershipClaim => ({ completeSince: 0 });
const lately = (): LeadershipClaim => ({ completeSince: performance.now() });

describe("the receivers' leadership", () => {
  it("is held by the first receiver that claims it, as long as it claims again, and by no other", async () => {
    const another = place(1_000);
    const [first, second] = [another(), another()];
    expect(await first.claim(lately())).toMatchObject({ held: true });
    let last = performance.now();
    for (const end = last + 1_500; last < end;) {
      await sleep(20);
      const { held } = await second.claim(complete());
      // If this process was paused, the lease may have expired.
      if (performance.now() - last > 1_000) return;
      expect(held).toBe(false);
      last = performance.now();
      expect((await first.claim(complete())).held).toBe(true);
    }
  });

  it("goes to another receiver when its holder is silent, and the old holder finds that out", async () => {
    const another = place(400);
    const [first, second] = [another(), another()];
    await first.claim(complete());
    await expect.poll(async () => (await second.claim(complete())).held, WAIT).toBe(true);
    expect((await first.claim(complete())).held).toBe(false);
  });

  it("is not kept for one that has received nothing, although both asked first in the same millisecond", async () => {
    for (let round = 0; round < 30; round++) {
      const another = place();
      const [first, second] = [another(), another()];
      const answers = await Promise.all([first.claim(lately()), second.claim(lately())]);
      expect(answers.map(({ held }) => held)).toEqual([true, false]);
      await first.release();
      expect((await another().claim(lately())).held).toBe(true);
    }
  });

  it("still belongs to its holder if it has expired and no other receiver took it", async () => {
    const lease = place(400)();
    await lease.claim(complete());
    await sleep(500);
    const answer = await lease.claim(complete());
    expect(answer.held).toBe(true);
    expect(answer.takeover).toBeUndefined();
  });

  it("is free at once when it is given up, but only its holder can do that", async () => {
    const another = place();
    const [first, second] = [another(), another()];
    await first.claim(complete());
    await second.release();
    expect((await first.claim(complete())).held).toBe(true);
    await first.release();
    expect((await second.claim(complete())).held).toBe(true);
  });

  it("is separate for each stream and prefix", async () => {
    const options = { redis: redis.producer, prefix: "{a}", stream: "redis://broker:6379/0" };
    const others = [options, { ...options, stream: "redis://broker:6379/1" }, { ...options, prefix: "{b}" }];
    for (const each of others) expect((await new Leadership(each).claim(complete())).held).toBe(true);
    expect(await redis.producer.keys("{a}:receiver:*")).toHaveLength(2);
  });

  it("passes the holder's safeUntil to a standby, each by its own clock, and never later than it is", async () => {
    const another = place();
    const [first, second] = [another(), another()];
    await first.claim(complete());
    const safeUntil = performance.now();
    await sleep(50);
    await first.claim({ completeSince: 0, safeUntil });
    const told = (await second.claim(complete())).safeUntil ?? Number.NaN;
    expect(told).toBeLessThanOrEqual(safeUntil);
    expect(told).toBeGreaterThan(safeUntil - 5_000);
    await second.release();
    await first.release();
    expect((await second.claim(complete())).safeUntil).toBeLessThanOrEqual(safeUntil + 1);
  });

  it("passes it not even a fraction of a millisecond too late", async () => {
    const another = place();
    const [first, second] = [another(), another()];
    await first.claim(complete());
    for (let time = 0; time < 300; time += 1) {
      const safeUntil = performance.now();
      await first.claim({ completeSince: 0, safeUntil });
      expect((await second.claim(complete())).safeUntil).toBeLessThanOrEqual(safeUntil);
    }
  });

  it("shows at a takeover whether the new holder has received everything since", async () => {
    const another = place();
    const [first, second, third] = [another(), another(), another()];
    await first.claim(complete());
    await first.claim({ completeSince: 0, safeUntil: performance.now() });
    await first.release();
    expect((await second.claim(complete())).takeover).toEqual({ covered: true });
    await second.claim({ completeSince: 0, safeUntil: performance.now() - 1_000 });
    await second.release();
    expect((await third.claim(lately())).takeover).toEqual({ covered: false });
  });

  it("waits for a standby that has everything rather than go to one that missed something", async () => {
    const another = place();
    const [first, standby, restarted] = [another(), another(), another()];
    const safe = { completeSince: 0, safeUntil: performance.now() - 1_000 };
    await first.claim(complete());
    await first.claim(safe);
    expect((await standby.claim(complete())).held).toBe(false);
    await first.release();
    expect((await restarted.claim(lately())).held).toBe(false);
    expect((await standby.claim(complete())).takeover).toEqual({ covered: true });
  });

  it("goes to one that missed something when no better one claims any more", async () => {
    const another = place(400);
    const [first, standby, restarted] = [another(), another(), another()];
    await first.claim(complete());
    await first.claim({ completeSince: 0, safeUntil: performance.now() - 1_000 });
    await standby.claim(complete());
    await first.release();
    const missed = lately();
    let last: LeadershipAnswer | undefined;
    await expect.poll(async () => (last = await restarted.claim(missed)).held, WAIT).toBe(true);
    expect(last?.takeover).toEqual({ covered: false });
  });

  it("survives a Redis clock that is set back: ends that are too far ahead count as past", async () => {
    const prefix = `{${randomUUID()}}`;
    const lease = new Leadership({ redis: redis.producer, prefix, stream: "s", ttlMs: 400 });
    const another = new Leadership({ redis: redis.producer, prefix, stream: "s", ttlMs: 400 });
    await another.claim(complete());
    const [key = ""] = await redis.producer.keys(`${prefix}:receiver:*`);
    const ahead = Date.now() + 3_600_000;
    await redis.producer.hset(key, { heldUntil: ahead, coveredUntil: ahead, safeUntil: ahead });
    const answer = await lease.claim(lately());
    expect(answer.held).toBe(true);
    expect(answer.safeUntil).toBeLessThanOrEqual(performance.now());
  });

  it("fails at once, as unavailable, while Redis is away, and works again after", async () => {
    const lease = place()();
    await lease.claim(complete());
    await redis.server.kill();
    await expect(lease.claim(complete())).rejects.toMatchObject({ code: "ERR_UNAVAILABLE" });
    await expect(lease.release()).rejects.toMatchObject({ code: "ERR_UNAVAILABLE" });
    await redis.server.restart();
    await expect
      .poll(
        async () =>
          lease.claim(complete()).then(
            ({ held }) => held,
            () => false,
          ),
        WAIT,
      )
      .toBe(true);
  });
});
