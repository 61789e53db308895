import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { toStoreError } from "../src/scripts/store-script.ts";

function reply(message: string): Error {
  return Object.assign(new Error(message), { name: "ReplyError" });
}

describe("an error of the Store's scripts", () => {
  it.each([
    "OOM command not allowed when used memory > 'maxmemory'. script: 4c1f, on @user_script:86.",
    // Redis 6, src/scripting.c.
    "ERR Error running script (call to f_4c1f): @user_script:86: @user_script: 86: -OOM command not allowed when used memory > 'maxmemory'. ",
    "ERR Error running script (call to f_4c1f): @user_script:86: @user_script: 86: -MISCONF Redis is configured to save RDB snapshots",
    "LOADING Redis is loading the dataset in memory",
  ])("passes: %s", (message) => {
    expect(toStoreError(reply(message))).toBeInstanceOf(UnavailableError);
  });

  it.each([
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR Error running script (call to f_4c1f): @user_script:86: user_script:86: attempt to index a nil value",
  ])("does not pass: %s", (message) => {
    expect(toStoreError(reply(message))).not.toBeInstanceOf(UnavailableError);
  });
});
