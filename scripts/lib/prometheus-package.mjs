/** Unpacks Debian's package of Prometheus for the tests, without installing it. */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { PROMETHEUS_FOLDER } from "../../packages/testkit/src/services/prometheus.mjs";
import { findProgram } from "../../packages/testkit/src/services/programs.mjs";
import { run } from "./child.mjs";
import { step } from "./console.mjs";

/** @returns {Promise<boolean>} whether it was unpacked. */
export async function unpackPrometheus() {
  const [apt, dpkg] = [findProgram(["apt-get"]), findProgram(["dpkg-deb"])];
  if (apt === undefined || dpkg === undefined) return false;
  step(`Prometheus not found. Unpacking its package in ${PROMETHEUS_FOLDER}`);
  mkdirSync(PROMETHEUS_FOLDER, { recursive: true });
  await run(apt, ["-q", "download", "prometheus"], { cwd: PROMETHEUS_FOLDER });
  const file = readdirSync(PROMETHEUS_FOLDER).find((name) => name.endsWith(".deb"));
  const unpacked = file !== undefined && (await run(dpkg, ["-x", file, "."], { cwd: PROMETHEUS_FOLDER })) === 0;
  if (unpacked) rmSync(join(PROMETHEUS_FOLDER, file));
  else rmSync(PROMETHEUS_FOLDER, { recursive: true, force: true });
  return unpacked;
}
