/** Waits for what processes report at `/readyz`. */
import { expect } from "vitest";
import { isReady, type RoleProcess } from "../fleet/role-process.ts";

const POLL_MS = 100;

export interface Readiness {
  readonly ready: boolean;
  /** The body of `/readyz`: every component, up or the reason why not. */
  readonly text: string;
}

export async function readinessOf({ healthUrl }: RoleProcess): Promise<Readiness> {
  const answer = await fetch(`${healthUrl}/readyz`);
  return { ready: answer.status === 200, text: await answer.text() };
}

export function readiness(processes: readonly RoleProcess[]): Promise<boolean[]> {
  return Promise.all(processes.map(isReady));
}

/** Waits until every process reports that it is ready, or that it is not. */
export async function expectReadiness(processes: readonly RoleProcess[], ready: boolean, timeoutMs: number): Promise<void> {
  const message = `processes to be ${ready ? "ready" : "not ready"}`;
  await expect.poll(() => readiness(processes), { timeout: timeoutMs, interval: POLL_MS, message }).toEqual(processes.map(() => ready));
}
