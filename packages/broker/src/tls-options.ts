/** TLS settings of a broker URL as Node wants them. */
import { ConfigError, toError } from "@celery-metrics-exporter/runtime";
import { readFileSync } from "node:fs";
import type { ConnectionOptions } from "node:tls";
import type { TlsSettings } from "./broker-url.ts";

type TlsOptions = Pick<ConnectionOptions, "ca" | "cert" | "key" | "rejectUnauthorized" | "checkServerIdentity">;

/**
 * Reads the certificate files; called for each connection, so that renewed certificates are used.
 *
 * @throws {ConfigError} when a file cannot be read.
 */
export function toTlsOptions(settings: TlsSettings): TlsOptions {
  return {
    rejectUnauthorized: settings.verify,
    ...(settings.checkHostname ? {} : { checkServerIdentity: () => undefined }),
    ...(settings.caFile === undefined ? {} : { ca: read("ssl_ca_certs", settings.caFile) }),
    ...(settings.certFile === undefined ? {} : { cert: read("ssl_certfile", settings.certFile) }),
    // Python takes a certificate file that holds its key too.
    ...(settings.certFile === undefined ? {} : { key: read("ssl_keyfile", settings.keyFile ?? settings.certFile) }),
  };
}

function read(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (thrown) {
    const { code } = toError(thrown) as NodeJS.ErrnoException;
    throw new ConfigError([`CELERY_BROKER_URL: ${setting} names a file that cannot be read (${code ?? "error"}): ${path}`]);
  }
}

/** What to tell a user whose broker speaks no TLS, or shows a certificate that is not trusted; undefined for any other error. */
export function tlsProblem(error: Error): string | undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER") return "it does not speak TLS on this port";
  if (code === undefined || !CERTIFICATE_ERRORS.test(code)) return undefined;
  return `its certificate is not trusted (${error.message}); name its authority with ssl_ca_certs, or turn the check off with ssl_cert_reqs=CERT_NONE`;
}

/** OpenSSL's verification errors as Node names them. */
const CERTIFICATE_ERRORS = /^(ERR_TLS_CERT_ALTNAME_INVALID|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/;
