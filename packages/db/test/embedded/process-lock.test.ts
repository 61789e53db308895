import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { lockForThisProcess } from "../../src/embedded/private-folder.ts";

let folder = "";
let path = "";
let other: ChildProcess;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cme-lock-"));
  path = join(folder, "lock.pid");
  other = spawn(process.execPath, ["--eval", "setTimeout(() => {}, 60_000)"], { stdio: "ignore" });
  await once(other, "spawn");
});
afterEach(async () => {
  await endOther();
  await rm(folder, { recursive: true, force: true });
});

async function endOther(): Promise<void> {
  if (other.exitCode !== null || other.signalCode !== null) return;
  const ended = once(other, "exit");
  other.kill("SIGKILL");
  await ended;
}

async function lock(): Promise<() => void> {
  return lockForThisProcess(path, (pid) => `in use by ${pid}`);
}

describe("the lock of a process", () => {
  test("names its process, excludes all others, and leaves nothing behind", async () => {
    const unlock = await lock();
    expect(await readFile(path, "utf8")).toMatch(new RegExp(`^${process.pid}\\b`));
    await expect(lock()).rejects.toThrow(`in use by ${process.pid}`);
    unlock();
    unlock();
    expect(await readdir(folder)).toEqual([]);
    (await lock())();
  });

  test("goes to one of several concurrent requests", async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, lock));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  test("is respected while the other process runs, and taken over when it is gone", async () => {
    await writeFile(path, `${other.pid}\n`);
    await expect(lock()).rejects.toThrow(`in use by ${other.pid}`);
    await expect(lock()).rejects.toBeInstanceOf(UnavailableError);
    await endOther();
    const unlock = await lock();
    expect(await readdir(folder)).toEqual(["lock.pid"]);
    unlock();
  });

  test.each([
    ["is empty, because its process crashed there", ""],
    ["is not ours", "no pid\n"],
  ])("is taken over if the file %s", async (_what, content) => {
    await writeFile(path, content);
    (await lock())();
    expect(await readdir(folder)).toEqual([]);
  });

  test.runIf(process.platform === "linux")("is taken over if another process now has the pid", async () => {
    await writeFile(path, `${other.pid} 1\n`);
    const unlock = await lock();
    expect(await readFile(path, "utf8")).toMatch(new RegExp(`^${process.pid}\\b`));
    unlock();
  });

  test("is not released by a process that has lost it", async () => {
    const unlock = await lock();
    await writeFile(path, `${other.pid}\n`);
    unlock();
    expect(await readFile(path, "utf8")).toBe(`${other.pid}\n`);
  });
});

describe("an embedded database", () => {
  test("is refused while another process has its folder, and available afterwards", async () => {
    const url = `pglite:${folder}`;
    const lockFile = join(folder, "celery-metrics-exporter.pid");
    await writeFile(lockFile, `${other.pid}\n`);
    const refused = connectDatabase({ url });
    await expect(refused).rejects.toBeInstanceOf(UnavailableError);
    await expect(refused).rejects.toThrow(
      `The embedded database in ${folder} is in use by process ${other.pid}. Stop it, or set DATABASE_URL.`,
    );
    await endOther();
    const database = await connectDatabase({ url });
    expect(await readFile(lockFile, "utf8")).toMatch(new RegExp(`^${process.pid}\\b`));
    // Under another name, and while the first is about to close.
    const again = await connectDatabase({ url: `pglite:${folder}/../${folder.split("/").at(-1) ?? ""}` });
    await Promise.all([database.close(), again.close(), connectDatabase({ url }).then((third) => third.close())]);
    expect(await readdir(folder)).not.toContain("celery-metrics-exporter.pid");
  }, 120_000);
});
