import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { BaseConfig, createLogger, defineRole, startRoles, type Role } from "../../src/index.ts";

const FIXTURE = fileURLToPath(new URL("../fixtures/role.mjs", import.meta.url));
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

/** Starts the fixture process (built code, as in production). */
function run(argument: string, env: Record<string, string> = { NEEDED: "yes" }) {
  const child = spawn(process.execPath, [FIXTURE, argument], {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, "exit").then(([code]) => code as number | null);
  const printed = async (text: string): Promise<void> => {
    while (!output.includes(text)) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  return { child, exited, printed, output: () => output };
}

describe("a role's process", () => {
  it.each(["SIGTERM", "SIGHUP"] as const)("drains on %s and exits 0", async (signal) => {
    const { child, exited, printed, output } = run("50");
    await printed("health port open");
    child.kill(signal);
    expect(await exited).toBe(0);
    expect(output()).toContain("drained");
  });

  it("logs which aliases set which settings", async () => {
    const { child, exited, printed, output } = run("50", { NEEDED: "yes", CE_LOG_LEVEL: "INFO" });
    await printed("health port open");
    child.kill("SIGTERM");
    await exited;
    const lines = output().match(/.*a setting is read from its alias.*/g);
    expect(lines).toEqual([expect.stringMatching(/"alias":"CE_LOG_LEVEL","setting":"LOG_LEVEL"/)]);
  });

  it("treats signals within a second of the first as the same one", async () => {
    const { child, exited, printed, output } = run("500");
    await printed("health port open");
    child.kill("SIGINT");
    await printed("draining");
    child.kill("SIGINT");
    expect(await exited).toBe(0);
    expect(output()).toContain("drained");
  });

  it("exits at once on a second signal", async () => {
    const { child, exited, printed, output } = run("20000");
    await printed("health port open");
    child.kill("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    child.kill("SIGTERM");
    expect(await exited).toBe(1);
    expect(output()).not.toContain("drained");
  });

  it("gives up a drain that takes longer than SHUTDOWN_TIMEOUT_SECONDS", async () => {
    const { child, exited, printed } = run("20000", { NEEDED: "yes", SHUTDOWN_TIMEOUT_SECONDS: "1" });
    await printed("health port open");
    child.kill("SIGTERM");
    expect(await exited).toBe(1);
  });

  it("on SIGTERM gives up a start that hangs, releases what it acquired, and exits 0", async () => {
    const { child, exited, printed, output } = run("hang");
    await printed("hanging");
    child.kill("SIGTERM");
    expect(await exited).toBe(0);
    expect(output()).toContain("released");
  });

  it("exits 78 with every problem of the configuration", async () => {
    const { exited, output } = run("0", { HEALTH_PORT: "99999" });
    expect(await exited).toBe(78);
    expect(output()).toContain("[ERR_CONFIG_INVALID]");
    expect(output()).toContain("NEEDED: is required. Something needed.");
    expect(output()).toContain("HEALTH_PORT: must be at most 65535");
  });

  it("reports misspelt settings next to the problems of others, each once", async () => {
    const { exited, output } = run("0", { HEALTH_PORT: "99999", HEALTH_HOTS: "0.0.0.0" });
    expect(await exited).toBe(78);
    expect(output()).toContain("Warning: HEALTH_HOTS: is not a setting and is ignored; did you mean HEALTH_HOST?");
    expect(output().match(/HEALTH_HOTS/g)).toHaveLength(1);
  });

  it("exits 69 with one clear line when a dependency is unreachable", async () => {
    const { exited, output } = run("refuse");
    expect(await exited).toBe(69);
    expect(output().trim().split("\n").at(-1)).toBe("fixture: Cannot reach the sink. Start it. [ERR_UNAVAILABLE]");
  });

  it("continues to drain after an unhandled rejection, and exits 1", async () => {
    const { child, exited, printed, output } = run("crash late");
    await printed("health port open");
    child.kill("SIGTERM");
    expect(await exited).toBe(1);
    expect(output()).toContain("unhandled rejection");
    expect(output()).toContain("drained");
  });

  it("drains and exits 1 after an unhandled rejection", async () => {
    const { exited, output } = run("crash");
    expect(await exited).toBe(1);
    expect(output()).toContain("unhandled rejection");
  });
});

function role(name: string, healthPort?: number): Role {
  return defineRole({ name, ...(healthPort === undefined ? {} : { healthPort }), Config: BaseConfig, start: async () => {} });
}

describe("the health port", () => {
  const logger = createLogger("test", "silent");
  /** A loopback address on which no other program listens. */
  const HEALTH_HOST = `127.${process.pid % 250}.7.7`;

  it.each([
    ["one role", [role("receiver", 9801)], 9801],
    ["several roles", [role("receiver", 9801), role("dashboard", 9804)], 9800],
  ])("of %s is fixed, or a free one if that is in use", async (_, roles, port) => {
    const first = await startRoles(roles, { HEALTH_HOST }, logger);
    const second = await startRoles(roles, { HEALTH_HOST }, logger);
    expect(first.healthUrl).toBe(`http://${HEALTH_HOST}:${port}`);
    expect(second.healthUrl).not.toBe(first.healthUrl);
    for (const running of [first, second]) {
      expect((await fetch(`${running.healthUrl}/healthz`)).status).toBe(200);
      await running.stop();
    }
  });

  it("causes a warning if it is in use, because its probes reach another process", async () => {
    const lines: Record<string, unknown>[] = [];
    const own = createLogger("test", "warn", { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
    const first = await startRoles([role("receiver", 9801)], { HEALTH_HOST }, own);
    expect(lines).toEqual([]);
    const second = await startRoles([role("receiver", 9801)], { HEALTH_HOST }, own);
    expect(lines).toEqual([
      expect.objectContaining({
        level: "warn",
        healthUrl: second.healthUrl,
        taken: 9801,
        advice: expect.stringContaining("HEALTH_PORT") as string,
      }),
    ]);
    await first.stop();
    await second.stop();
  });

  it("is not replaced if it was set", async () => {
    const first = await startRoles([role("receiver")], { HEALTH_PORT: "0" }, logger);
    const { port } = new URL(first.healthUrl);
    await expect(startRoles([role("receiver")], { HEALTH_PORT: port }, logger)).rejects.toThrow(/Choose another HEALTH_PORT/);
    await first.stop();
  });
});
