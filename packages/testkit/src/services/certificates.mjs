/** The certificates of the TLS tests (`certificates/README.md`), and copies that a server of another user can read. */
import { chownSync, copyFileSync, chmodSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** @typedef {"ca" | "other-ca" | "server" | "server-key" | "client" | "client-key" | "stranger" | "stranger-key"} CertificateName */

/**
 * @param {CertificateName} name
 * @returns {string} the path of the file.
 */
export function certificate(name) {
  return fileURLToPath(new URL(`../../certificates/${name}.pem`, import.meta.url));
}

/**
 * Copies the files of a server into its folder: PostgreSQL refuses a key that others may read or that belongs to another user.
 *
 * @param {string} folder
 * @param {import("./folders.mjs").Owner} [owner]
 * @returns {{ ca: string, cert: string, key: string }} the paths.
 */
export function serverCertificates(folder, owner) {
  /** @param {CertificateName} name */
  const copy = (name) => {
    const path = join(folder, `${name}.pem`);
    copyFileSync(certificate(name), path);
    chmodSync(path, 0o600);
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
    return path;
  };
  return { ca: copy("ca"), cert: copy("server"), key: copy("server-key") };
}
