/** Which failures of Redis are of the kind that pass. */
import { UnavailableError, redisProblem, redisReply, toError } from "@celery-metrics-exporter/runtime";

/** Replies of a server that cannot serve now: loading, failing over, full, busy with a script, refusing to write, not the one with this key. */
const PASSING =
  /^(LOADING|BUSY|OOM|READONLY|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|TRYAGAIN|UNBLOCKED|NOAUTH|NOPERM|WRONGPASS|EXECABORT|MOVED|ASK|CROSSSLOT)\b/;

/** What a script of ours may not do, in the words of Redis before 7.2 (src/script.c, src/scripting.c). */
const FORBIDDEN_IN_SCRIPT = /The user executing the script can't/;

/** An error of a command, as `UnavailableError` unless the command itself was wrong. */
export function toStoreError(thrown: unknown): Error {
  const error = toError(thrown);
  const passes = PASSING.test(redisReply(error)) || FORBIDDEN_IN_SCRIPT.test(error.message);
  if (error.name === "ReplyError" && !passes) return error;
  return new UnavailableError(`The Store in Redis does not serve (${redisProblem(error)}).`, { cause: error });
}
