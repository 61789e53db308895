/**
 * `npm run demo [-- --seconds <n>]`: gets and starts what the demo needs, then runs `celery-metrics-exporter demo` with it.
 * REDIS_URL, CELERY_BROKER_URL and DATABASE_URL are used where they are set.
 */
import { join } from "node:path";
import { findCeleryPython } from "../packages/testkit/src/services/celery.mjs";
import { findRabbitmq, startRabbitmq } from "../packages/testkit/src/services/rabbitmq.mjs";
import { findRedis, startRedis } from "../packages/testkit/src/services/redis.mjs";
import { run } from "./lib/child.mjs";
import { EXIT_UNAVAILABLE, Failure, runScript, step } from "./lib/console.mjs";
import { DockerCompose } from "./lib/docker.mjs";
import { provide, remedy } from "./lib/requirements.mjs";
import { prepareWorkspace, ROOT } from "./lib/workspace.mjs";

const REDIS_AS_BROKER = "RabbitMQ cannot be had here: Redis is the broker.";
const NO_CELERY = "Celery cannot be had here: its events come from a simulator.";

/** @typedef {{ redisUrl: string, brokerUrl: string, stop: () => Promise<void> }} Services */

await runScript(async () => {
  const needsRedis = given("REDIS_URL") === undefined;
  const needsBroker = given("CELERY_BROKER_URL") === undefined;
  await provide([...optional(needsRedis, "redis"), ...optional(needsBroker, "rabbitmq"), "celery"]);
  const python = findCeleryPython();
  if (python === undefined) step(NO_CELERY);
  const [services] = await Promise.all([startServices({ needsRedis, needsBroker }), prepareWorkspace()]);
  try {
    const cli = join(ROOT, "apps/cli/bin/celery-metrics-exporter.js");
    const env = { ...process.env, REDIS_URL: services.redisUrl, CELERY_BROKER_URL: services.brokerUrl };
    return await run(process.execPath, [cli, "demo", ...process.argv.slice(2)], {
      env: python === undefined ? env : { ...env, DEMO_CELERY_PYTHON: python },
    });
  } finally {
    await services.stop();
  }
});

/**
 * @param {string} name
 * @returns {string | undefined}
 */
function given(name) {
  const value = process.env[name];
  return value === "" ? undefined : value;
}

/**
 * @template {string} T
 * @param {boolean} isNeeded
 * @param {T} name
 * @returns {T[]}
 */
function optional(isNeeded, name) {
  return isNeeded ? [name] : [];
}

/**
 * Starts what the user did not give, at the same time: programs of this machine, else containers.
 *
 * @param {{ needsRedis: boolean, needsBroker: boolean }} needs
 * @returns {Promise<Services>}
 */
async function startServices({ needsRedis, needsBroker }) {
  const canRedis = findRedis() !== undefined;
  const canRabbitmq = findRabbitmq() !== undefined;
  if ((needsRedis && !canRedis) || (needsBroker && !canRabbitmq && DockerCompose.isAvailable())) {
    if (!DockerCompose.isAvailable())
      throw new Failure(`The demo needs Redis, which this machine lacks. Run:\n\n  ${remedy(["redis"])}\n`, EXIT_UNAVAILABLE);
    return startContainers({ needsRedis, needsBroker });
  }
  if (needsBroker && !canRabbitmq) step(REDIS_AS_BROKER);
  const names = [...optional(needsRedis, "Redis"), ...optional(needsBroker && canRabbitmq, "RabbitMQ")];
  if (names.length > 0) step(`Starting ${names.join(" and ")} for this demo alone …`);
  const [redis, rabbitmq] = await Promise.all([
    needsRedis ? startRedis() : undefined,
    needsBroker && canRabbitmq ? startRabbitmq() : undefined,
  ]);
  const redisUrl = redis?.url ?? given("REDIS_URL") ?? "";
  return {
    redisUrl,
    brokerUrl: given("CELERY_BROKER_URL") ?? rabbitmq?.url ?? redisUrl,
    stop: async () => {
      for (const server of [redis, rabbitmq]) await server?.kill().then(() => server.stop());
    },
  };
}

/**
 * @param {{ needsRedis: boolean, needsBroker: boolean }} needs
 * @returns {Promise<Services>}
 */
async function startContainers({ needsRedis, needsBroker }) {
  const compose = new DockerCompose();
  const stop = () => compose.down();
  try {
    await compose.up([...optional(needsRedis, "redis"), ...optional(needsBroker, "rabbitmq")]);
    return {
      redisUrl: given("REDIS_URL") ?? `redis://${compose.address("redis")}`,
      brokerUrl: given("CELERY_BROKER_URL") ?? `amqp://guest:guest@${compose.address("rabbitmq")}`,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
