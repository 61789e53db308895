/** What is said when Redis cannot be had at start. */
import { UnavailableError } from "./errors.ts";

/** Where user, password or address are not welcome. */
const LOGIN = /WRONGPASS|NOAUTH|NOPERM|DENIED|ERR invalid password/;
/** What only a Redis says that was reached. */
const ANSWERS = /^(ERR |READONLY|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN)/;

/** Another setting than the URL is wrong. */
const NAMES_SETTING = /; set REDIS_[A-Z_]+$/;

/** Whether Redis does not let us in. */
export function isLoginRefusal({ message }: Error): boolean {
  return LOGIN.test(message);
}

/**
 * After waiting in vain.
 *
 * @param server the URL as it may be shown.
 */
export function notServing(server: string, reason: string, isLoading: boolean): UnavailableError {
  if (isLoading) return new UnavailableError(`Redis at ${server} is still loading its data. Wait, or set STARTUP_TIMEOUT_SECONDS.`);
  if (ANSWERS.test(reason)) return new UnavailableError(`Redis at ${server} does not serve: ${reason}. Check REDIS_URL.`);
  return new UnavailableError(`Cannot reach Redis at ${server} (${reason}). Start it, or set REDIS_URL.`);
}

/** Where waiting does not help. `error` is what was said, `reason` what that means. */
export function notUsable(server: string, reason: string, error?: Error): UnavailableError {
  if (NAMES_SETTING.test(reason)) return new UnavailableError(`Cannot use Redis at ${server}: ${reason}.`);
  return error !== undefined && isLoginRefusal(error)
    ? new UnavailableError(`Redis at ${server} refuses us: ${reason}. Check REDIS_URL.`)
    : new UnavailableError(`Cannot use Redis at ${server}: ${reason}. Correct REDIS_URL.`);
}
