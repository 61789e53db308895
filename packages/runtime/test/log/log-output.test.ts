/** Log lines that cannot be written: the process must still serve, stay small and exit cleanly. */
import { freePort } from "@celery-metrics-exporter/testkit";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it, vi } from "vitest";
import { readableLine } from "../../src/log/readable-line.ts";

const FIXTURE = fileURLToPath(new URL("../fixtures/role.mjs", import.meta.url));
const WAIT = { timeout: 20_000, interval: 50 };
const releases: (() => void)[] = [];

afterEach(() => {
  for (const release of releases.splice(0).toReversed()) release();
});

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "log-output-"));
  releases.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

interface Running {
  readonly child: ChildProcess;
  readonly get: (path: string) => Promise<unknown>;
}

/** Starts the fixture (built code, as in production) with this standard output. `undefined`: closed. */
async function start(stdout: number | undefined, argument = "10"): Promise<Running> {
  const port = await freePort();
  const run = `exec '${process.execPath}' '${FIXTURE}' ${argument}`;
  const child = spawn("sh", ["-c", stdout === undefined ? `${run} >&-` : run], {
    env: { PATH: process.env["PATH"], NEEDED: "yes", HEALTH_PORT: String(port) },
    stdio: ["ignore", stdout ?? "ignore", "ignore"],
  });
  releases.push(() => child.kill("SIGKILL"));
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(2_000) });
    return response.json();
  };
  await vi.waitFor(async () => expect(await get("/healthz")).toEqual({ status: "ok" }), WAIT);
  return { child, get };
}

async function expectToServeAndEnd({ child, get }: Running): Promise<void> {
  expect(await get("/healthz")).toEqual({ status: "ok" });
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([0, null]);
}

function opened(path: string, flags: number): number {
  const fd = openSync(path, flags);
  releases.push(() => closeSync(fd));
  return fd;
}

function fifo(): string {
  const path = join(temporaryFolder(), "fifo");
  execFileSync("mkfifo", [path]);
  return path;
}

/** A disk of 64 KiB; undefined if we lack the permission to create one. */
function smallDisk(): string | undefined {
  const folder = temporaryFolder();
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  releases.push(() => execFileSync("umount", ["-l", folder]));
  return folder;
}

describe("a process whose log lines cannot be written", () => {
  it("survives a full disk", async () => {
    await expectToServeAndEnd(await start(opened("/dev/full", constants.O_WRONLY)));
  });

  it("survives a disk that fills up, and reports the number of lost lines once there is room", async ({ skip }) => {
    const disk = smallDisk();
    if (disk === undefined) return skip("may not mount");
    const filler = join(disk, "filler");
    const log = join(disk, "log");
    writeFileSync(filler, "x".repeat(40_000));
    const running = await start(opened(log, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND), "chatter");
    await vi.waitFor(async () => expect(await running.get("/chattered")).toEqual({ done: true }), WAIT);
    rmSync(filler);
    await expectToServeAndEnd(running);
    const lines = readFileSync(log, "utf8").split("\n");
    const readable = lines.filter((line) => line.startsWith("{") && line.endsWith("}")).map((line) => JSON.parse(line) as { msg: string });
    expect(readable).toContainEqual(expect.objectContaining({ msg: "log lines were lost", lines: expect.any(Number) }));
    expect(readable.at(-1)?.msg).toBe("stopped");
  });

  it("survives a pipe whose reader is gone", async () => {
    const path = fifo();
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const running = await start(opened(path, constants.O_WRONLY), "chatter");
    closeSync(reader);
    await vi.waitFor(async () => expect(await running.get("/chattered")).toEqual({ done: true }), WAIT);
    await expectToServeAndEnd(running);
  });

  it("survives a pipe whose reader stalls, without growing", async () => {
    const running = await start(opened(fifo(), constants.O_RDWR), "chatter");
    await vi.waitFor(async () => expect(await running.get("/chattered")).toEqual({ done: true }), WAIT);
    const status = readFileSync(`/proc/${running.child.pid}/status`, "utf8");
    expect(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1_024).toBeLessThan(150);
    await expectToServeAndEnd(running);
  });

  it("survives a paused terminal", async () => {
    const script = `import os, pty, sys, time
pid, fd = pty.fork()
if pid == 0: os.execv("/bin/sh", ["sh", "-c", sys.argv[1]])
print(pid, flush=True)
time.sleep(60)`;
    const port = await freePort();
    const env = { PATH: process.env["PATH"], NEEDED: "yes", HEALTH_PORT: String(port) };
    const terminal = spawn("python3", ["-c", script, `exec '${process.execPath}' '${FIXTURE}' chatter`], {
      env,
      stdio: ["ignore", "pipe", "ignore"],
    });
    releases.push(() => terminal.kill("SIGKILL"));
    const [pid] = (await once(terminal.stdout, "data")) as [Buffer];
    releases.push(() => process.kill(Number(pid), "SIGKILL"));
    const answer = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(2_000) })).json();
    await vi.waitFor(async () => expect(await answer("/chattered")).toEqual({ done: true }), WAIT);
    process.kill(Number(pid), "SIGTERM");
    await vi.waitFor(async () => expect(await answer("/healthz").catch(() => "gone")).toBe("gone"), WAIT);
  });

  it("survives a closed standard output", async () => {
    await expectToServeAndEnd(await start(undefined));
  });
});

function lineOf(fields: object): string {
  return `${JSON.stringify({ level: "warn", time: "2026-11-29T10:20:30.123Z", ...fields })}\n`;
}

describe("log lines for people", () => {
  it("show time, level, role, message, fields and stacks", () => {
    const text = readableLine(
      lineOf({ role: "receiver", queue: "a b", count: 3, err: { message: "no", stack: "Error: no\n    at x" }, msg: "queue full" }),
      false,
    );
    expect(text).toMatch(/^\d\d:20:30 WARN {2}receiver: queue full queue="a b" count=3\n {4}Error: no\n {8}at x\n$/);
  });

  it("leave lines that are not JSON unchanged", () => {
    expect(readableLine("plain\n", true)).toBe("plain\n");
  });

  it("let no field control the terminal", () => {
    const text = readableLine(
      lineOf({ role: "r", task: "\u001B[2Jx", msg: "m\u001B[2J", err: { message: "e", stack: "s\u001B[2J" } }),
      false,
    );
    expect(text).not.toContain("\u001B");
  });
});
