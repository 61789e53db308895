/** Private Prometheus servers, and promtool. */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { temporaryFolder } from "./folders.mjs";
import { freePort } from "./ports.mjs";
import { findProgram } from "./programs.mjs";
import { ServerProcess } from "./server-process.mjs";

/** Where the scripts unpack Debian's package, without installing it: installed, it would start a server. */
export const PROMETHEUS_FOLDER = fileURLToPath(new URL("../../../../.data/prometheus", import.meta.url));

/** @returns {string | undefined} */
export function findPrometheus() {
  return findProgram(["prometheus"], [join(PROMETHEUS_FOLDER, "usr/bin")]);
}

/** @returns {string | undefined} */
function findPromtool() {
  return findProgram(["promtool"], [join(PROMETHEUS_FOLDER, "usr/bin")]);
}

/** @typedef {{ metric: Readonly<Record<string, string>>, value: number }} Sample a series and its value at the time of the query. */

/** A private Prometheus. */
export class PrometheusServer extends ServerProcess {
  /** @returns {string} */
  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /**
   * Evaluates an expression.
   *
   * @param {string} expression
   * @param {number} [at] milliseconds since the epoch; default: now.
   * @returns {Promise<Sample[]>}
   */
  async query(expression, at = Date.now()) {
    /** @type {{ metric: Record<string, string>, value: [number, string] }[]} */
    const result = await this.#ask("query", { query: expression, time: String(at / 1_000) });
    return result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  /**
   * Evaluates an expression for every second of a time, as a panel does.
   *
   * @param {string} expression
   * @param {number} from milliseconds since the epoch.
   * @param {number} [to]
   * @returns {Promise<{ metric: Readonly<Record<string, string>>, values: number[] }[]>}
   */
  async queryRange(expression, from, to = Date.now()) {
    /** @type {{ metric: Record<string, string>, values: [number, string][] }[]} */
    const result = await this.#ask("query_range", { query: expression, start: String(from / 1_000), end: String(to / 1_000), step: "1" });
    return result.map(({ metric, values }) => ({ metric, values: values.map(([, value]) => Number(value)) }));
  }

  /**
   * @param {string} path
   * @param {Record<string, string>} parameters
   * @returns {Promise<any[]>}
   */
  async #ask(path, parameters) {
    const response = await fetch(`${this.url}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`);
    /** @type {{ status: string, error?: string, data: { result: unknown[] } }} */
    const answer = /** @type {any} */ (await response.json());
    if (answer.status !== "success") throw new Error(`${parameters["query"]}: ${answer.error}`);
    return answer.data.result;
  }
}

/**
 * Starts an empty Prometheus that scrapes every second.
 *
 * @param {{ scrapes: readonly object[] }} options `scrapes`: its `scrape_configs`.
 * @returns {Promise<PrometheusServer>}
 */
export async function startPrometheus({ scrapes }) {
  const command = findPrometheus();
  if (command === undefined) throw new Error("found no Prometheus on this machine");
  const port = await freePort();
  const folder = temporaryFolder("prometheus");
  const config = join(folder, "prometheus.yml");
  // YAML includes JSON.
  writeFileSync(config, JSON.stringify({ global: { scrape_interval: "1s", scrape_timeout: "1s" }, scrape_configs: scrapes }));
  const server = new PrometheusServer({
    name: "prometheus",
    command,
    args: [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=warn",
    ],
    port,
    folder,
    hello: Buffer.from("GET /-/ready HTTP/1.0\r\n\r\n"),
    isReady: (answer) => answer.toString("latin1").startsWith("HTTP/1.0 200"),
  });
  await server.start();
  return server;
}

/**
 * Runs promtool.
 *
 * @param {readonly string[]} args
 * @param {string} [input]
 * @returns {Promise<{ ok: boolean, output: string }>} `output`: what it printed, errors too.
 */
export function promtool(args, input = "") {
  const command = findPromtool();
  if (command === undefined) throw new Error("found no promtool on this machine");
  return new Promise((resolve) => {
    const child = execFile(command, args, (error, stdout, stderr) => {
      resolve({ ok: error === null, output: `${stdout}${stderr}` });
    });
    child.stdin?.on("error", () => {}); // It ended without reading all: its exit code says why.
    child.stdin?.end(input);
  });
}

/**
 * Runs `promtool check metrics`.
 *
 * @param {string} text what a scrape shows.
 * @returns {Promise<string>} what it finds fault with; empty if nothing.
 */
export async function checkMetrics(text) {
  const { ok, output } = await promtool(["check", "metrics"], text);
  return ok ? output : `promtool failed\n${output}`;
}
