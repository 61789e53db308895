/** Freezes a server: its processes stop, its connections stay open, and nothing is answered. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** The server's process and its children, such as PostgreSQL's backends. Only the kernel still accepts new connections. */
export async function freeze(pid: number): Promise<() => void> {
  process.kill(pid, "SIGSTOP");
  const pids = [pid, ...(await childrenOf(pid))];
  signal(pids, "SIGSTOP");
  return () => signal(pids.toReversed(), "SIGCONT");
}

async function childrenOf(pid: number): Promise<number[]> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,ppid="]);
  const processes = stdout.trim().split("\n");
  const numbers = processes.map((line) => line.trim().split(/\s+/).map(Number));
  return numbers.flatMap(([child, parent]) => (parent === pid && child !== undefined ? [child] : []));
}

function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // It has ended meanwhile.
    }
  }
}
