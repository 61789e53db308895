import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ChildProgram } from "../src/child-program.ts";

const WAIT = { timeout: 20_000 };
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "child-process-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function start(script: string): ChildProgram {
  return new ChildProgram({
    command: "sh",
    args: ["-c", script],
    env: { PATH: "/usr/bin:/bin" },
    folder,
    outputFile: join(folder, "output"),
  });
}

function output(): string {
  return existsSync(join(folder, "output")) ? readFileSync(join(folder, "output"), "utf8") : "";
}

/** A dead process whose parent has not read its exit status is still listed. */
function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.startsWith("Z");
}

it("keeps a program's output, and returns its exit code", async () => {
  const program = start("echo out; echo err >&2; exit 3");
  expect(await program.ended).toBe(3);
  expect(program.hasEnded).toBe(true);
  expect(output()).toBe("out\nerr\n");
  await program.stop();
});

it("ends a program and everything it started", async () => {
  const program = start('trap "exit 0" TERM; sleep 60 & echo $!; wait');
  await vi.waitFor(() => expect(output()).not.toBe(""), WAIT);
  const grandchild = Number(output());
  expect(isAlive(grandchild)).toBe(true);
  await program.stop();
  await vi.waitFor(() => expect(isAlive(grandchild)).toBe(false), WAIT);
});

it("ends, and says why, if there is no such program", async () => {
  const program = new ChildProgram({ command: "/nowhere/python", args: [], env: {}, folder, outputFile: join(folder, "output") });
  expect(await program.ended).toBe(127);
  expect(program.hasEnded).toBe(true);
  expect(program.output()).toContain("/nowhere/python");
  await program.stop();
});

it("leaves nothing behind when this process is killed", async () => {
  // A second process, on the built sources, takes the place of this one.
  const source = new URL("../dist/child-program.js", import.meta.url).href;
  const script = join(folder, "parent.mjs");
  writeFileSync(
    script,
    `import { ChildProgram } from ${JSON.stringify(source)};
     new ChildProgram({ command: "sh", args: ["-c", "echo $$; sleep 60"], env: process.env, folder: ${JSON.stringify(folder)}, outputFile: ${JSON.stringify(join(folder, "output"))} });
     setInterval(() => {}, 1000);`,
  );
  const parent = spawn(process.execPath, [script], { stdio: "inherit" });
  await vi.waitFor(() => expect(output()).not.toBe(""), WAIT);
  const child = Number(output());
  parent.kill("SIGKILL");
  await once(parent, "exit");
  await vi.waitFor(() => expect(isAlive(child)).toBe(false), WAIT);
});

it("waits for a program's output, but not for a program that has ended", async () => {
  const program = start("sleep 0.2; echo ready; sleep 60");
  expect(await program.hasWritten(/^ready$/m, 20_000)).toBe(true);
  await program.kill();
  expect(program.hasEnded).toBe(true);
  expect(await program.hasWritten(/^later$/m, 20_000)).toBe(false);
});
