/** CPU time and memory of a process and all its descendants, from /proc on Linux (man 5 proc). */
import { readFileSync, readdirSync } from "node:fs";

/** The kernel's unit of utime and stime in user space. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4_096;

export interface Usage {
  /** User and system time, including children that have ended. */
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

interface ProcessStat extends Usage {
  readonly parent: number;
}

/** @throws {Error} if the process is gone, and on systems without /proc. */
export function usageOf(pid: number): Usage {
  const processes = new Map(
    readdirSync("/proc").flatMap((entry) => (/^\d+$/.test(entry) ? [[Number(entry), statOf(entry)] as const] : [])),
  );
  const root = processes.get(pid);
  if (root === undefined) throw new Error(`process ${pid} is gone`);
  let { cpuSeconds, residentBytes } = root;
  const family = new Set([pid]);
  // Repeats until nothing is added, because ids may wrap around, so that a child has a lower id than its parent.
  for (let before = 0; before !== family.size;) {
    before = family.size;
    for (const [child, stat] of processes) {
      if (stat === undefined || family.has(child) || !family.has(stat.parent)) continue;
      family.add(child);
      cpuSeconds += stat.cpuSeconds;
      residentBytes += stat.residentBytes;
    }
  }
  return { cpuSeconds, residentBytes };
}

/** Undefined if the process has just ended. */
function statOf(pid: string): ProcessStat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name is in parentheses and may contain anything; the fields after it are numbered from 3.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const field = (number: number): number => Number(fields[number - 3]);
    const ticks = field(14) + field(15) + field(16) + field(17);
    return { parent: field(4), cpuSeconds: ticks / TICKS_PER_SECOND, residentBytes: field(24) * PAGE_BYTES };
  } catch {
    return undefined;
  }
}
