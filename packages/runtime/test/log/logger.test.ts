import { describe, expect, it } from "vitest";
import { createLogger } from "../../src/index.ts";

function logged(write: (logger: ReturnType<typeof createLogger>) => void, role?: string): string {
  let output = "";
  write(createLogger(role, "debug", { write: (line) => void (output += line) }));
  return output;
}

describe("the logger", () => {
  it("logs an error, but not the command that Redis refused", () => {
    const error = Object.assign(new Error("WRONGPASS invalid password"), {
      code: "ERR",
      command: { name: "hello", args: ["3", "AUTH", "default", "hunter2"] },
      previousErrors: [{ command: { args: ["hunter2"] } }],
    });
    const line = logged((logger) => logger.warn({ err: error }, "refused"));
    expect(JSON.parse(line)).toMatchObject({ level: "warn", msg: "refused", err: { message: "WRONGPASS invalid password", code: "ERR" } });
    expect(line).not.toContain("hunter2");
  });

  it("logs an error of a cluster, but not the command that its node refused", () => {
    const refused = Object.assign(new Error("WRONGPASS invalid password"), { command: { name: "auth", args: ["hunter2"] } });
    const error = Object.assign(new Error("Failed to refresh slots cache."), { lastNodeError: refused });
    const line = logged((logger) => logger.debug({ err: error }, "queue lengths unknown"));
    expect(JSON.parse(line)).toMatchObject({
      err: { message: "Failed to refresh slots cache.", lastNodeError: { message: "WRONGPASS invalid password" } },
    });
    const ofSeveral = logged((logger) => logger.debug({ err: new AggregateError([refused], "no node answers") }, "queue lengths unknown"));
    expect(ofSeveral).toContain("WRONGPASS");
    expect(line + ofSeveral).not.toContain("hunter2");
  });

  it("hides task data that is logged by mistake", () => {
    const line = logged((logger) => logger.info({ args: "hunter2", event: { kwargs: "hunter2", result: "hunter2" } }, "event"));
    expect(line).not.toContain("hunter2");
  });

  it("names its role once", () => {
    const ofOne = logged((logger) => logger.info("started"), "receiver");
    const ofSeveral = logged((logger) => logger.child({ role: "receiver" }).info("started"));
    expect(ofOne.match(/"role":/g)).toHaveLength(1);
    expect(ofSeveral.match(/"role":/g)).toHaveLength(1);
  });
});
