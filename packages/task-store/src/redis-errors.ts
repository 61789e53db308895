/** Which failures of Redis are of the kind that pass. */
import { UnavailableError, toError } from "@celery-metrics-exporter/runtime";

/** Replies of a server that cannot serve now: loading, failing over, full, busy with a script, refusing to write. */
const PASSING =
  /^(LOADING|BUSY|OOM|READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|TRYAGAIN|UNBLOCKED|NOAUTH|NOPERM|WRONGPASS|EXECABORT)\b/;

/** An error of a command, as `UnavailableError` unless the command itself was wrong. */
export function toStoreError(thrown: unknown): Error {
  const error = toError(thrown);
  if (error.name === "ReplyError" && !PASSING.test(error.message)) return error;
  return new UnavailableError(`The Store in Redis does not serve (${error.message}).`, { cause: error });
}
