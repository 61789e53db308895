/** Keeps one session with a broker open. When it ends, opens the next one, trying a list of servers in turn. */
import {
  CodedError,
  Outage,
  UnavailableError,
  abortable,
  backoffMs,
  pause,
  toError,
  type ComponentHealth,
  type Logger,
} from "@celery-metrics-exporter/runtime";
import { OtherServerError, DeniedError } from "./source.ts";

/** A working connection. */
export interface Session {
  /** Resolves with the reason when the session ends, on either side. Never rejects. */
  readonly ended: Promise<Error>;
  /** Ends the session in bounded time. Idempotent, and safe after its end. */
  close(): Promise<void>;
}

export interface SessionKeeperOptions<Server, S extends Session> {
  /** The broker's name, for people. */
  readonly name: string;
  readonly servers: readonly Server[];
  /**
   * Opens a session, or throws the reason and leaves nothing open. Gives up when `signal` aborts.
   *
   * @throws {DeniedError} if the server refuses access.
   */
  readonly open: (server: Server, signal: AbortSignal) => Promise<S>;
  /** A label for logs, without credentials. */
  readonly describe: (server: Server) => string;
  /** A session was lost. The next one will be opened. */
  readonly onLost?: (reason: Error) => void;
  readonly startupTimeoutMs: number;
  readonly logger: Logger;
  readonly health: ComponentHealth;
}

const OPEN_TIMEOUT_MS = 15_000;
/** Limit on the delay between attempts, so that a broker is found within seconds of its return. */
const MAX_WAIT_MS = 4_000;
/** Short, because at startup somebody may be watching the log. */
const FIRST_REPEAT_MS = 5_000;
/** Length after which a session counts as good, so that the next attempt follows soon. */
const GOOD_SESSION_MS = 5_000;

export class SessionKeeper<Server, S extends Session> {
  readonly #options: SessionKeeperOptions<Server, S>;
  readonly #stopping = new AbortController();
  #session: S | undefined;
  #running: Promise<void> = Promise.resolve();
  /** The last error of each server. */
  readonly #lastErrors = new Map<Server, Error>();
  #turn = 0;
  #failures = 0;

  constructor(options: SessionKeeperOptions<Server, S>) {
    this.#options = options;
  }

  /** The current session, if any. */
  get session(): S | undefined {
    return this.#session;
  }

  /**
   * Resolves when the first session is open. From then on, opens another whenever one ends.
   *
   * @throws {UnavailableError} if no session opens within the startup timeout; at once if every server refused access.
   * @throws {CodedError} from `open`, because a retry cannot help.
   */
  async start(): Promise<void> {
    const { name, servers, startupTimeoutMs, logger } = this.#options;
    const deadline = Date.now() + startupTimeoutMs;
    const waiting = new Outage({
      logger,
      began: `waiting for ${name}`,
      ended: `${name} is available`,
      level: "info",
      firstRepeatMs: FIRST_REPEAT_MS,
    });
    const refusedBy = new Set<Server>();
    while (!this.#stopping.signal.aborted) {
      const server = this.#server();
      const opened = await this.#open(server, Math.max(1, deadline - Date.now()));
      if (!(opened instanceof Error)) {
        waiting.served();
        this.#running = this.#keep(opened);
        return;
      }
      if (opened instanceof CodedError) throw opened;
      if (opened instanceof DeniedError) refusedBy.add(server);
      const waitMs = this.#nextWaitMs();
      if (refusedBy.size === servers.length || Date.now() + waitMs >= deadline) throw this.#unavailable(opened);
      waiting.failed({ server: this.#options.describe(server), reason: messageOf(opened) });
      await pause(waitMs, this.#stopping.signal);
    }
    throw this.#unavailable(new Error("stopped while starting"));
  }

  /** Ends the session and opens no further ones. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#session?.close();
    await this.#running;
  }

  async #keep(first: S): Promise<void> {
    const { name, logger, health } = this.#options;
    const outage = new Outage({ logger, began: "broker unreachable, retrying", ended: "broker reconnected" });
    let session: S | undefined = first;
    while (!this.#stopping.signal.aborted) {
      if (session === undefined) {
        await pause(this.#nextWaitMs(), this.#stopping.signal);
        if (this.#stopping.signal.aborted) return;
        const server = this.#server();
        const fields = { broker: name, server: this.#options.describe(server) };
        const opened = await this.#open(server, OPEN_TIMEOUT_MS);
        if (opened instanceof Error) {
          outage.failed({ ...fields, reason: messageOf(opened) });
          continue;
        }
        if (outage.isOn) outage.served(fields);
        else logger.info(fields, "broker reconnected");
        session = opened;
      }
      session = await this.#endOf(session);
    }
    health.down("stopped");
  }

  async #endOf(session: S): Promise<undefined> {
    const { name, logger, health, onLost } = this.#options;
    const startedAt = Date.now();
    const reason = await session.ended;
    this.#session = undefined;
    if (this.#stopping.signal.aborted) return;
    health.down(reason.message);
    logger.warn({ broker: name, reason: reason.message }, "broker connection lost, reconnecting");
    this.#failures = Date.now() - startedAt > GOOD_SESSION_MS ? 0 : this.#failures + 1;
    this.#turn += 1;
    await session.close();
    onLost?.(reason);
  }

  async #open(server: Server, timeoutMs: number): Promise<S | Error> {
    const { open, health } = this.#options;
    const attempt = new AbortController();
    const abort = (): void => attempt.abort(new Error("no answer in time"));
    const timer = setTimeout(abort, Math.min(timeoutMs, OPEN_TIMEOUT_MS));
    this.#stopping.signal.addEventListener("abort", abort, { once: true });
    try {
      const session = await unlessAborted(open(server, attempt.signal), attempt.signal);
      this.#session = session;
      health.up();
      return session;
    } catch (thrown) {
      const cutShort = attempt.signal.aborted && timeoutMs < OPEN_TIMEOUT_MS;
      const error = (cutShort ? this.#lastErrors.get(server) : undefined) ?? toError(thrown);
      this.#lastErrors.set(server, error);
      health.down(messageOf(error));
      this.#turn += 1;
      this.#failures += 1;
      return error;
    } finally {
      clearTimeout(timer);
      this.#stopping.signal.removeEventListener("abort", abort);
    }
  }

  #server(): Server {
    const { servers } = this.#options;
    return servers[this.#turn % servers.length] as Server;
  }

  /** The delay grows only after the whole list was tried. */
  #nextWaitMs(): number {
    return backoffMs(Math.floor(Math.max(0, this.#failures - 1) / this.#options.servers.length), { maxMs: MAX_WAIT_MS });
  }

  #unavailable(error: Error): UnavailableError {
    const { name, servers, describe } = this.#options;
    const where = servers.map(describe).join(" or ");
    if (error instanceof OtherServerError) {
      return new UnavailableError(`Cannot use ${name} at ${where}: ${error.message}. Correct ${error.setting}.`, { cause: error });
    }
    if (error instanceof DeniedError) {
      return new UnavailableError(`${name} at ${where} refused access: ${error.message}. Check ${error.setting}.`, { cause: error });
    }
    return new UnavailableError(`Cannot reach ${name} at ${where} (${messageOf(error)}). Start it, or set CELERY_BROKER_URL.`, {
      cause: error,
    });
  }
}

/** Waits for the session until the abort, whether or not the broker answers. Closes a session that opens too late. */
async function unlessAborted<S extends Session>(opening: Promise<S>, signal: AbortSignal): Promise<S> {
  try {
    return await abortable(opening, signal);
  } catch (thrown) {
    opening.then(
      (session) => session.close(),
      () => {},
    );
    throw thrown;
  }
}

/** The error's message. For a name with several addresses, Node's error has none, so this uses the first address. */
function messageOf(error: Error): string {
  if (error.message !== "") return error.message;
  if (error instanceof AggregateError && error.errors[0] instanceof Error) return error.errors[0].message;
  return (error as NodeJS.ErrnoException).code ?? "no answer";
}
