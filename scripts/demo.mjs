/**
 * `npm run demo [-- --seconds <n>]`: installs and starts what the demo needs, then runs `apps/demo` with it.
 * Servers named in the environment are used only with `--use-environment`.
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

const REDIS_AS_BROKER = "RabbitMQ is not available here: using Redis as the broker.";
const NO_CELERY = "Celery is not available here: simulating its events.";

/** @typedef {{ args: readonly string[], stop: () => Promise<void> }} Services what was started, as options of the demo. */

const ARGUMENTS = process.argv.slice(2);

await runScript(async () => {
  const needsRedis = !isGiven("REDIS_URL", "redis");
  const needsBroker = !isGiven("CELERY_BROKER_URL", "broker");
  await prepareWorkspace();
  // Installs and starts nothing if the demo will only print help or report wrong arguments.
  const { acceptsDemoArguments } = await import("../apps/demo/dist/command.js");
  if (ARGUMENTS.includes("--help") || !acceptsDemoArguments(ARGUMENTS)) return runDemo([]);
  await provide([...optional(needsRedis, "redis"), ...optional(needsBroker, "rabbitmq"), "celery"]);
  const python = findCeleryPython();
  if (python === undefined) step(NO_CELERY);
  const services = await startServices({ needsRedis, needsBroker });
  try {
    return await runDemo(python === undefined ? services.args : ["--demo-celery-python", python, ...services.args]);
  } finally {
    await services.stop();
  }
});

/**
 * The servers were started only for this demo, so their URLs contain no secret and may appear in the process list.
 *
 * @param {readonly string[]} args
 * @returns {Promise<number>}
 */
function runDemo(args) {
  return run(process.execPath, [join(ROOT, "apps/demo/dist/bundle.js"), ...args, ...ARGUMENTS]);
}

/**
 * @param {string} variable
 * @param {string} alias the option's shorter name.
 * @returns {boolean} whether the user names their own server.
 */
function isGiven(variable, alias) {
  const options = [alias, variable.toLowerCase().replaceAll("_", "-")].map((name) => `--${name}`);
  if (ARGUMENTS.some((argument) => options.some((name) => argument === name || argument.startsWith(`${name}=`)))) return true;
  if (!ARGUMENTS.includes("--use-environment")) return false;
  return [variable, `${variable}_FILE`].some((name) => (process.env[name] ?? "") !== "");
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
 * Starts the servers that the user did not name, in parallel: as programs on this machine, else in containers.
 *
 * @param {{ needsRedis: boolean, needsBroker: boolean }} needs
 * @returns {Promise<Services>}
 */
async function startServices({ needsRedis, needsBroker }) {
  const canRabbitmq = findRabbitmq() !== undefined;
  const isRedisTheBroker = needsBroker && !canRabbitmq && !DockerCompose.isAvailable();
  const startsRedis = needsRedis || isRedisTheBroker;
  if ((startsRedis && findRedis() === undefined) || (needsBroker && !canRabbitmq && !isRedisTheBroker)) {
    if (!DockerCompose.isAvailable())
      throw new Failure(`The demo needs Redis, which this machine lacks. Run:\n\n  ${remedy(["redis"])}\n`, EXIT_UNAVAILABLE);
    return startContainers({ needsRedis, needsBroker });
  }
  if (isRedisTheBroker) step(REDIS_AS_BROKER);
  const names = [...optional(startsRedis, "Redis"), ...optional(needsBroker && canRabbitmq, "RabbitMQ")];
  if (names.length > 0) step(`Starting ${names.join(" and ")} for this demo alone …`);
  const [redis, rabbitmq] = await Promise.all([
    startsRedis ? startRedis() : undefined,
    needsBroker && canRabbitmq ? startRabbitmq() : undefined,
  ]);
  const broker = rabbitmq ?? (isRedisTheBroker ? redis : undefined);
  return {
    args: [...option("redis", needsRedis ? redis?.url : undefined), ...ofOwnBroker(broker?.url)],
    stop: async () => {
      for (const server of [redis, rabbitmq]) await server?.kill().then(() => server.stop());
    },
  };
}

/**
 * On a broker that was started for the demo there are no workers but the demo's, so the monitor may ask them.
 *
 * @param {string | undefined} url
 * @returns {string[]}
 */
function ofOwnBroker(url) {
  return url === undefined ? [] : [...option("broker", url), ...option("monitor-inspect", "true")];
}

/**
 * @param {string} name
 * @param {string | undefined} value
 * @returns {string[]}
 */
function option(name, value) {
  return value === undefined ? [] : [`--${name}`, value];
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
      args: [
        ...option("redis", needsRedis ? `redis://${compose.address("redis")}` : undefined),
        ...ofOwnBroker(needsBroker ? `amqp://guest:guest@${compose.address("rabbitmq")}` : undefined),
      ],
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
