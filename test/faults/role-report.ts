/** What a role's process says of its readiness. */
import type { RoleProcess } from "../fleet/role-process.ts";

export interface Readiness {
  readonly ready: boolean;
  /** The body of `/readyz`: every component, up or why not. */
  readonly text: string;
}

export async function readinessOf({ healthUrl }: RoleProcess): Promise<Readiness> {
  const answer = await fetch(`${healthUrl}/readyz`);
  return { ready: answer.status === 200, text: await answer.text() };
}
