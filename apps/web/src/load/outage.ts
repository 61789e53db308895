/** One line in the log for an outage of the database, however many requests fail meanwhile. */
import type { Reader } from "@celery-metrics-exporter/db";
import { Outage, TimedOutError, UnavailableError, type Logger } from "@celery-metrics-exporter/runtime";

export function outageOf(logger: Logger): Outage {
  return new Outage({ logger, began: "PostgreSQL does not answer", ended: "PostgreSQL answers again" });
}

/** A reader that reports to the outage. That a statement takes too long is no outage: it may be the fault of the statement. */
export function withOutage(reader: Reader, outage: Outage): Reader {
  return {
    address: reader.address,
    ping: () => reader.ping(),
    close: () => reader.close(),
    read: async (statement, timeoutMs) => {
      try {
        const rows = await reader.read(statement, timeoutMs);
        outage.served();
        return rows as never;
      } catch (thrown) {
        if (isOutage(thrown)) outage.failed({ reason: thrown.message });
        throw thrown;
      }
    },
  };
}

/** Whether the outage has it in the log. */
export function isOutage(thrown: unknown): thrown is UnavailableError {
  return thrown instanceof UnavailableError && !(thrown instanceof TimedOutError);
}
