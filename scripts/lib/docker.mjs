/** Docker Compose, for machines without the servers and without the right to install them. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { run } from "./child.mjs";
import { Failure, step } from "./console.mjs";

const FILE = fileURLToPath(new URL("./compose.yaml", import.meta.url));
const CONTAINER_PORTS = { redis: "6379", rabbitmq: "5672" };

/** @typedef {keyof typeof CONTAINER_PORTS} ContainerName */

/** Our own Compose project, with a unique name. */
export class DockerCompose {
  /** @type {readonly string[]} */
  #args = ["compose", "-f", FILE, "-p", `celery-metrics-exporter-${process.pid}`];

  /** @returns {boolean} whether Compose and a running engine are available. */
  static isAvailable() {
    return ["compose version", "info"].every((command) => spawnSync("docker", command.split(" "), { stdio: "ignore" }).status === 0);
  }

  /**
   * Starts containers and waits until they are healthy.
   *
   * @param {readonly ContainerName[]} names
   * @returns {Promise<void>}
   */
  async up(names) {
    step(`Starting with Docker Compose: ${names.join(", ")}`);
    const code = await run("docker", [...this.#args, "up", "--detach", "--wait", ...names]);
    if (code !== 0) throw new Failure(`Docker Compose could not start ${names.join(" and ")}.`, code);
  }

  /**
   * @param {ContainerName} name
   * @returns {string} the address on this machine, `127.0.0.1:<port>`.
   */
  address(name) {
    const { stdout } = spawnSync("docker", [...this.#args, "port", name, CONTAINER_PORTS[name]], { encoding: "utf8" });
    if (!/^127\.0\.0\.1:\d+$/.test(stdout.trim())) throw new Failure(`Docker Compose published no port for ${name}.`);
    return stdout.trim();
  }

  /**
   * Runs one container in the foreground.
   *
   * @param {string} name
   * @param {readonly string[]} args
   * @returns {Promise<number>} its exit code.
   */
  run(name, args) {
    return run("docker", [...this.#args, "run", "--rm", name, ...args]);
  }

  /** @returns {Promise<void>} */
  async down() {
    await run("docker", [...this.#args, "down", "--volumes", "--timeout", "5"]);
  }
}
