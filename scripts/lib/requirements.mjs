/** The programs that the tests and the demo need besides Node.js, and how to install missing ones. */
import { findCeleryPython } from "../../packages/testkit/src/services/celery.mjs";
import { findChromium } from "../../packages/testkit/src/services/chromium.mjs";
import { findPostgres } from "../../packages/testkit/src/services/postgres.mjs";
import { findPrometheus } from "../../packages/testkit/src/services/prometheus.mjs";
import { findRabbitmq } from "../../packages/testkit/src/services/rabbitmq.mjs";
import { findRedis } from "../../packages/testkit/src/services/redis.mjs";
import { installCelery } from "./celery-environment.mjs";
import { step } from "./console.mjs";
import { unpackPrometheus } from "./prometheus-package.mjs";
import { packageManager } from "./system-packages.mjs";

/**
 * @typedef {object} Requirement
 * @property {string} title
 * @property {() => string | undefined} find
 * @property {readonly string[]} apt
 * @property {readonly string[]} brew
 */

/** @typedef {"redis" | "rabbitmq" | "postgres" | "celery" | "chromium" | "prometheus"} RequirementName */

/** @type {Readonly<Record<RequirementName, Requirement>>} */
const REQUIREMENTS = {
  redis: { title: "Redis", find: findRedis, apt: ["redis-server"], brew: ["redis"] },
  rabbitmq: { title: "RabbitMQ", find: findRabbitmq, apt: ["rabbitmq-server"], brew: ["rabbitmq"] },
  postgres: { title: "PostgreSQL", find: findPostgres, apt: ["postgresql"], brew: ["postgresql@17"] },
  celery: {
    title: "Celery",
    find: findCeleryPython,
    apt: ["python3-celery", "python3-redis", "python3-msgpack", "python3-yaml"],
    brew: [],
  },
  // Not every distribution has the first, which takes half of the CPU time.
  chromium: { title: "Chromium", find: findChromium, apt: ["chromium-headless-shell", "chromium"], brew: ["chromium"] },
  prometheus: { title: "Prometheus", find: findPrometheus, apt: ["prometheus"], brew: ["prometheus"] },
};

/**
 * Makes the programs available: installs missing ones with the system's package manager, if this user may do that.
 *
 * @param {readonly RequirementName[]} names
 * @returns {Promise<RequirementName[]>} what is still missing.
 */
export async function provide(names) {
  let missing = findMissing(names);
  if (missing.includes("prometheus") && (await unpackPrometheus())) missing = findMissing(missing);
  const manager = missing.length === 0 ? undefined : packageManager();
  if (manager !== undefined) {
    const packages = missing.flatMap((name) => REQUIREMENTS[name][manager.name]);
    if (packages.length > 0) {
      step(`${titles(missing)} not found. Installing with ${manager.label}: ${packages.join(" ")}`);
      await manager.install(packages);
      missing = findMissing(missing);
    }
  }
  if (missing.includes("celery") && (await installCelery())) missing = findMissing(missing);
  return missing;
}

/**
 * @param {readonly RequirementName[]} names
 * @returns {RequirementName[]}
 */
function findMissing(names) {
  return names.filter((name) => REQUIREMENTS[name].find() === undefined);
}

/**
 * @param {readonly RequirementName[]} names
 * @returns {string} e.g. `Redis, RabbitMQ`
 */
export function titles(names) {
  return names.map((name) => REQUIREMENTS[name].title).join(", ");
}

/**
 * The command that installs what is missing.
 *
 * @param {readonly RequirementName[]} names
 * @returns {string}
 */
export function remedy(names) {
  const brew = names.flatMap((name) => REQUIREMENTS[name].brew);
  if (process.platform === "darwin" && brew.length > 0) return `brew install ${brew.join(" ")}`;
  return `sudo apt-get update && sudo apt-get install -y ${names.flatMap((name) => REQUIREMENTS[name].apt).join(" ")}`;
}
