/** Finds a Python that can run Celery with both brokers. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { findPrograms } from "./programs.mjs";

/** The folder of `shop.py` and `drive.py`. */
export const CELERY_FOLDER = fileURLToPath(new URL("../../celery", import.meta.url));

/** A Python environment in this checkout, which the scripts create if the system has no package of Celery. */
export const CELERY_ENVIRONMENT_PYTHON = fileURLToPath(new URL("../../../../.data/celery/bin/python3", import.meta.url));

const PROBE = "from celery import Celery; import redis, amqp";
const PROBE_TIMEOUT_MS = 20_000;

/** @type {string | undefined} */
let found;

/**
 * The first Python that can import Celery and the clients of both brokers: `$CELERY_PYTHON`, each `python3` on the PATH, the system's own,
 * the checkout's own.
 *
 * @returns {string | undefined}
 */
export function findCeleryPython() {
  found ??= candidates().find(hasCelery);
  return found;
}

/** @returns {string[]} */
function candidates() {
  const given = process.env.CELERY_PYTHON;
  return [...(given === undefined || given === "" ? [] : [given]), ...findPrograms(["python3"]), CELERY_ENVIRONMENT_PYTHON];
}

/**
 * @param {string} python
 * @returns {boolean}
 */
function hasCelery(python) {
  return spawnSync(python, ["-c", PROBE], { stdio: "ignore", timeout: PROBE_TIMEOUT_MS }).status === 0;
}
