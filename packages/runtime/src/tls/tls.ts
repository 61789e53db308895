/** TLS settings as Node wants them, and its errors as users want them. */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import { ConfigError, toError } from "../errors.ts";

export type TlsOptions = Pick<ConnectionOptions, "rejectUnauthorized" | "checkServerIdentity" | "servername"> & {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
};

export interface TlsContext {
  /** The variable that holds the URL. */
  readonly variable: string;
  readonly names: TlsSettingNames;
  /** The server's host as the URL has it; absent where it is known only later. */
  readonly host?: string;
}

/**
 * `ca`, `cert` and `key` read their files anew each time they are asked for, and give what they last read when that fails: whoever keeps
 * these options for later connections uses renewed certificates.
 *
 * @throws {ConfigError} when a file cannot be read now.
 */
export function toTlsOptions(settings: TlsSettings, { variable, names, host }: TlsContext): TlsOptions {
  const { verify, checkHostname, serverName, caFile, certFile, keyFile } = settings;
  if (keyFile !== undefined && certFile === undefined) {
    throw new ConfigError([`${variable}: ${names.key} needs ${names.cert}, the certificate that the key belongs to`]);
  }
  const name = serverName ?? host;
  const options: TlsOptions = {
    rejectUnauthorized: verify,
    checkServerIdentity: checkHostname ? (peer, certificate) => checkServerIdentity(serverName ?? peer, certificate) : () => undefined,
    // Node sends no name unless told to; an address is none (RFC 6066, section 3).
    ...(name === undefined || isIP(name) !== 0 ? {} : { servername: name }),
  };
  const file = (key: "ca" | "cert" | "key", setting: string, path: string): void => {
    const read = reader(`${variable}: ${setting}`, path);
    Object.defineProperty(options, key, { get: read, enumerable: true, configurable: true });
  };
  if (caFile !== undefined) file("ca", names.ca, caFile);
  if (certFile !== undefined) {
    file("cert", names.cert, certFile);
    // Python takes a certificate file that holds its key too.
    file("key", keyFile === undefined ? names.cert : names.key, keyFile ?? certFile);
  }
  return options;
}

function reader(what: string, path: string): () => Buffer {
  let last: Buffer;
  try {
    last = readFileSync(path);
  } catch (thrown) {
    const { code } = toError(thrown) as NodeJS.ErrnoException;
    throw new ConfigError([`${what} names a file that cannot be read (${code ?? "error"}): ${path}`]);
  }
  return () => {
    try {
      last = readFileSync(path);
    } catch {
      // In the middle of its renewal.
    }
    return last;
  };
}

/** What to tell a user when the two sides do not agree on TLS or each other's certificates; undefined for any other error. */
export function tlsProblem(error: Error, names: TlsSettingNames): string | undefined {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG") return "it does not speak TLS on this port";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID" || code === "HOSTNAME_MISMATCH") {
    return `its certificate is not trusted: it is for another host (${error.message}); say which with ${names.serverName}, or turn that check off with ${names.noHostCheck}`;
  }
  if (SERVER_NOT_TRUSTED.test(code)) {
    return `its certificate is not trusted (${error.message}); name its authority with ${names.ca}, or turn the check off with ${names.noCheck}`;
  }
  if (CLIENT_CERTIFICATE_MISSING.test(code)) return `it wants a certificate of ours; name one with ${names.cert} and ${names.key}`;
  if (CLIENT_NOT_TRUSTED.test(code))
    return `it does not accept our certificate (${code}); name another with ${names.cert} and ${names.key}`;
  if (KEY_UNUSABLE.test(code))
    return `our certificate or its key cannot be used (${code}); see ${names.ca}, ${names.cert} and ${names.key}`;
  return undefined;
}

/**
 * What may be behind a connection that was reset. A server that lacks our certificate, or does not trust it, says so and closes at once; when it closes before it has
 * read what we sent, its words are lost on the way, and only the reset arrives.
 */
export function resetHint(error: Error, tls: object | undefined, names: TlsSettingNames): string | undefined {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (tls === undefined || !["ECONNRESET", "EPIPE"].includes(code)) return undefined;
  const guess = "cert" in tls ? "does not accept our certificate; name another with" : "wants a certificate of ours; name one with";
  return `${code}: perhaps it ${guess} ${names.cert} and ${names.key}`;
}

/** OpenSSL's verification errors as Node names them. */
const SERVER_NOT_TRUSTED = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_)/;
/** What a server answers to a client without a certificate: TLS 1.3, and 1.2. */
const CLIENT_CERTIFICATE_MISSING = /^ERR_SSL_(TLSV13_ALERT_CERTIFICATE_REQUIRED|(SSLV3|TLSV1)_ALERT_HANDSHAKE_FAILURE)$/;
const CLIENT_NOT_TRUSTED =
  /^ERR_SSL_(SSLV3|TLSV1|TLSV13)_ALERT_(BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_(EXPIRED|REVOKED|UNKNOWN)|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)$/;
/** Files that hold no certificate or key, or not the two that belong together. */
const KEY_UNUSABLE = /^ERR_(OSSL_(PEM|X509|EVP|UNSUPPORTED)|SSL_(PEM|KEY|EE_KEY)|CRYPTO_)/;

// How a connection is to be encrypted, and the query settings of a URL that say so: those of kombu and redis-py.

/** Unlike kombu, who trusts anyone unless told otherwise, we verify by default. */
export interface TlsSettings {
  /** False with `ssl_cert_reqs=CERT_NONE`: whoever answers is trusted. */
  readonly verify: boolean;
  /** False with `ssl_check_hostname=false`: the certificate may name another host. */
  readonly checkHostname: boolean;
  /** The name to ask for (SNI) and to find in the certificate; that of the URL if absent. */
  readonly serverName?: string;
  /** Authorities to trust instead of the usual ones. */
  readonly caFile?: string;
  /** Our own certificate, for a server that asks for one. */
  readonly certFile?: string;
  /** Its key; if absent, the key is in `certFile`. */
  readonly keyFile?: string;
}

/** `problem` is for the user to read. Undefined settings: the query asks for none. */
export type ParsedTlsSettings =
  | { readonly ok: true; readonly settings: TlsSettings | undefined }
  | { readonly ok: false; readonly problem: string };

/** What the settings are called in a URL, for messages. */
export interface TlsSettingNames {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly serverName: string;
  readonly noHostCheck: string;
  readonly noCheck: string;
}

/**
 * kombu hands `ssl_*` settings to py-amqp and redis-py (kombu/utils/url.py, `parse_url`). `ssl_server_hostname` is py-amqp's option
 * `server_hostname` with kombu's prefix (amqp/transport.py, `_wrap_socket_sni`).
 */
export const KOMBU_TLS_NAMES: TlsSettingNames = {
  ca: "ssl_ca_certs",
  cert: "ssl_certfile",
  key: "ssl_keyfile",
  serverName: "ssl_server_hostname",
  noHostCheck: "ssl_check_hostname=false",
  noCheck: "ssl_cert_reqs=CERT_NONE",
};

/** All that is read from the query of a URL. */
export const TLS_QUERY: readonly string[] = [
  "ssl",
  "ssl_cert_reqs",
  "ssl_check_hostname",
  KOMBU_TLS_NAMES.ca,
  KOMBU_TLS_NAMES.cert,
  KOMBU_TLS_NAMES.key,
  KOMBU_TLS_NAMES.serverName,
];

/** @param always whether the connection is encrypted in any case, as the URL's scheme says. */
export function parseTlsSettings(query: URLSearchParams, always: boolean): ParsedTlsSettings {
  const asked = [...query.keys()].some((key) => key.startsWith("ssl_")) || isTrue(query.get("ssl"));
  if (!always && !asked) return { ok: true, settings: undefined };
  const verify = toVerify(query.get("ssl_cert_reqs"));
  if (verify === undefined) return { ok: false, problem: "ssl_cert_reqs must be CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE" };
  const caFile = query.get(KOMBU_TLS_NAMES.ca);
  const certFile = query.get(KOMBU_TLS_NAMES.cert);
  const keyFile = query.get(KOMBU_TLS_NAMES.key);
  const serverName = query.get(KOMBU_TLS_NAMES.serverName);
  const checkHostname = query.get("ssl_check_hostname");
  const settings = {
    verify,
    checkHostname: checkHostname === null || isTrue(checkHostname),
    ...(serverName === null ? {} : { serverName }),
    ...(caFile === null ? {} : { caFile }),
    ...(certFile === null ? {} : { certFile }),
    ...(keyFile === null ? {} : { keyFile }),
  };
  return { ok: true, settings };
}

/** A client has no use for the difference between optional and required (Python's ssl module). */
function toVerify(certReqs: string | null): boolean | undefined {
  switch (certReqs?.toLowerCase().replace(/^cert_/, "")) {
    case undefined:
    case "required":
    case "optional":
      return true;
    case "none":
      return false;
    default:
      return undefined;
  }
}

function isTrue(value: string | null): boolean {
  return value !== null && /^(true|1|yes|on)$/i.test(value);
}
