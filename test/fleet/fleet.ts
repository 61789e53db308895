/** Several processes of every role, as in a deployment: started together, killed and replaced by a test, drained at the end. */
import { isReady, startRole, type Environment, type RoleProcess } from "./role-process.ts";

export type RoleName = "receiver" | "web" | `${string}-processor`;

export interface FleetOptions {
  readonly env: Environment;
  /** Number of processes per role; default 0. */
  readonly processes: Readonly<{ [role in RoleName]?: number }>;
}

export class Fleet {
  readonly #env: Environment;
  readonly #running = new Map<RoleName, RoleProcess[]>();

  private constructor(env: Environment) {
    this.#env = env;
  }

  /** Resolves when every process is ready. */
  static async start({ env, processes }: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet(env);
    const roles = Object.entries(processes).flatMap(([role, count]) => Array.from({ length: count ?? 0 }, () => role as RoleName));
    await Promise.all(roles.map((role) => fleet.add(role)));
    await fleet.whenReady();
    return fleet;
  }

  /** The running processes of a role, or all of them, in start order. */
  processes(role?: RoleName): readonly RoleProcess[] {
    return role === undefined ? [...this.#running.values()].flat() : (this.#running.get(role) ?? []);
  }

  /** Starts another process of a role, with additional settings. */
  async add(role: RoleName, env: Environment = {}): Promise<RoleProcess> {
    const process = await startRole(role, { ...this.#env, ...env });
    this.#running.set(role, [...this.processes(role), process]);
    return process;
  }

  /** SIGKILLs the given process, or the oldest one of a role. */
  async kill(role: RoleName, victim = this.processes(role)[0]): Promise<void> {
    this.#remove(role, victim);
    await victim?.kill();
  }

  /** SIGTERMs the given process, or the oldest one of a role. Resolves with its exit code. */
  async drain(role: RoleName, victim = this.processes(role)[0]): Promise<number | null | undefined> {
    this.#remove(role, victim);
    return victim?.stop();
  }

  /** @throws {Error} with the content of `/readyz` if a process is not ready within `timeoutMs`. */
  async whenReady(timeoutMs = 30_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (const process of this.processes()) {
      while (!(await isReady(process))) {
        if (Date.now() > deadline) throw new Error(`not ready: ${await (await fetch(`${process.healthUrl}/readyz`)).text()}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** Drains every process. Resolves with their exit codes. */
  async stop(): Promise<readonly (number | null)[]> {
    const processes = this.processes();
    this.#running.clear();
    return Promise.all(processes.map((process) => process.stop()));
  }

  #remove(role: RoleName, victim: RoleProcess | undefined): void {
    const others = this.processes(role).filter((process) => process !== victim);
    this.#running.set(role, others);
  }
}
