/** Installs system packages, if this user may do so without a password. */
import { spawnSync } from "node:child_process";
import { findProgram } from "../../packages/testkit/src/services/programs.mjs";
import { run } from "./child.mjs";

/**
 * Installs Debian packages. A `policy-rc.d` that answers no keeps their servers from starting on their default ports. Newly installed servers are
 * also disabled, so that they do not start with the machine. If the machine has its own `policy-rc.d`, that one decides.
 */
const APT_SCRIPT = `
set -u
export DEBIAN_FRONTEND=noninteractive
trap 'exit 130' INT TERM HUP
present=" "
for unit in redis-server rabbitmq-server postgresql epmd prometheus; do
  if [ -e "/lib/systemd/system/$unit.service" ]; then present="$present$unit "; fi
done
if [ ! -e /usr/sbin/policy-rc.d ]; then
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
fi
apt-get -q update
status=0
apt-get -q install -y --no-install-recommends "$@" || for package in "$@"; do
  apt-get -q install -y --no-install-recommends "$package" || status=1
done
for unit in redis-server rabbitmq-server postgresql epmd prometheus; do
  case $present in
    *" $unit "*) ;;
    *) systemctl disable "$unit" >/dev/null 2>&1 || true ;;
  esac
done
exit $status
`;

/**
 * @typedef {object} PackageManager
 * @property {"apt" | "brew"} name
 * @property {string} label its name in messages.
 * @property {(packages: readonly string[]) => Promise<void>} install installs what it can; the caller checks what is still missing.
 */

/** @returns {PackageManager | undefined} undefined if there is none, or if this user may not use it. */
export function packageManager() {
  const apt = findProgram(["apt-get"]);
  if (apt !== undefined) return debian();
  const brew = findProgram(["brew"]);
  if (brew === undefined) return undefined;
  return {
    name: "brew",
    label: "Homebrew",
    install: async (packages) => {
      await run(brew, ["install", ...packages]);
    },
  };
}

/** @returns {PackageManager | undefined} */
function debian() {
  const isRoot = process.getuid?.() === 0;
  const sudo = isRoot ? undefined : passwordlessSudo();
  if (!isRoot && sudo === undefined) return undefined;
  const shell = ["sh", "-c", APT_SCRIPT, "apt"];
  return {
    name: "apt",
    label: isRoot ? "apt-get" : "sudo apt-get",
    install: async (packages) => {
      const [command = "", ...args] = sudo === undefined ? shell : [sudo, "-n", ...shell];
      await run(command, [...args, ...packages]);
    },
  };
}

/** @returns {string | undefined} */
function passwordlessSudo() {
  const sudo = findProgram(["sudo"]);
  return sudo !== undefined && spawnSync(sudo, ["-n", "true"], { stdio: "ignore" }).status === 0 ? sudo : undefined;
}
