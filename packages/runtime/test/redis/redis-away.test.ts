import { describe, expect, it } from "vitest";
import { isRedisAway } from "../../src/redis/failure.ts";

function reply(message: string): Error {
  return Object.assign(new Error(message), { name: "ReplyError" });
}

describe("a command's error", () => {
  it.each([
    "OOM command not allowed when used memory > 'maxmemory'. script: 4c1f, on @user_script:86.",
    // Redis 6, src/scripting.c.
    "ERR Error running script (call to f_4c1f): @user_script:86: @user_script: 86: -OOM command not allowed when used memory > 'maxmemory'. ",
    "ERR Error running script (call to f_4c1f): @user_script:86: @user_script: 86: -MISCONF Redis is configured to save RDB snapshots",
    "NOPERM this user has no permissions to run the 'hgetall' command",
    "LOADING Redis is loading the dataset in memory",
  ])("is temporary: %s", (message) => {
    expect(isRedisAway(reply(message))).toBe(true);
  });

  it.each([
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR Error running script (call to f_4c1f): @user_script:86: user_script:86: attempt to index a nil value",
  ])("is not temporary: %s", (message) => {
    expect(isRedisAway(reply(message))).toBe(false);
  });

  it("is temporary if nothing answered", () => {
    expect(isRedisAway(new Error("connect ECONNREFUSED 127.0.0.1:6379"))).toBe(true);
  });
});
