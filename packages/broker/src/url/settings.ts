/** The query settings of a broker URL, as kombu reads them, and warnings about unsupported ones. */
import { KOMBU_TLS_NAMES, editDistance } from "@celery-metrics-exporter/runtime";

/** Login method for RabbitMQ: with user and password in one of two forms, or with a client certificate. */
export type LoginMethod = "PLAIN" | "AMQPLAIN" | "EXTERNAL";

const LOGIN_METHODS: readonly LoginMethod[] = ["PLAIN", "AMQPLAIN", "EXTERNAL"];

/** Parses py-amqp's login method (amqp/sasl.py). Undefined if it is not supported. */
export function parseLoginMethod(name: string | null): LoginMethod | undefined {
  return name === null ? "PLAIN" : LOGIN_METHODS.find((method) => method === name.toUpperCase());
}

export const LOGIN_METHODS_TEXT = "login_method must be PLAIN, AMQPLAIN or EXTERNAL";

/** Supported settings. */
const USED = [
  "ssl",
  "ssl_cert_reqs",
  KOMBU_TLS_NAMES.ca,
  KOMBU_TLS_NAMES.cert,
  KOMBU_TLS_NAMES.key,
  KOMBU_TLS_NAMES.serverName,
  "ssl_check_hostname",
  "login_method",
  "virtual_host",
  "db",
];

/** Settings of kombu, py-amqp and redis-py that do not matter to a receiver. */
const HARMLESS =
  /^(heartbeat|connect_timeout|failover_strategy|insist|confirm_publish|(read|write)_timeout|socket_\w+|health_check_interval|max_connections|retry_on_timeout|visibility_timeout|client_name|protocol)$/;

/** Largest edit distance at which a name counts as a misspelling. */
const MAX_TYPOS = 2;

/** Transport options. Celery reads them from `broker_transport_options`; here they are separate settings. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  master_name: "CELERY_SENTINEL_MASTER_NAME",
  global_keyprefix: "CELERY_GLOBAL_KEYPREFIX",
  fanout_prefix: "CELERY_FANOUT_PREFIX",
  fanout_patterns: "CELERY_FANOUT_PATTERNS",
};

/** Unsupported TLS settings of kombu, py-amqp and redis-py. Ignoring them is safe: they only restrict what is trusted or offered. */
const UNSUPPORTED_TLS =
  /^ssl_(version|min_version|ciphers|ca_path|ca_data|keyfile_password|validate_ocsp(_stapled)?|do_handshake_on_connect|suppress_ragged_eofs)$/;

/**
 * Warnings about ignored settings. They are not errors: kombu ignores unknown settings too and Celery accepts such a URL, and a mistyped TLS
 * setting leaves the checks on. Never quotes a value.
 */
export function settingsWarnings(query: URLSearchParams): string[] {
  return [...new Set(query.keys())].flatMap((name) => {
    if (USED.includes(name) || HARMLESS.test(name)) return [];
    const elsewhere = Object.hasOwn(ELSEWHERE, name) ? ELSEWHERE[name] : undefined;
    if (elsewhere !== undefined) return [`the setting ${name} is ignored in the URL: set ${elsewhere}`];
    if (UNSUPPORTED_TLS.test(name)) return [`the setting ${name} is not supported and ignored`];
    return [`the unknown setting ${shown(name)} is ignored: ${suggestion(name)}`];
  });
}

function shown(name: string): string {
  return /^\w{1,40}$/.test(name) ? name : "after the ?";
}

function suggestion(name: string): string {
  const nearest = [...USED, ...Object.keys(ELSEWHERE), "heartbeat"].find((known) => editDistance(plain(known), plain(name)) <= MAX_TYPOS);
  return nearest === undefined ? `known settings: ${USED.join(", ")}` : `did you mean ${nearest}?`;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z]/g, "");
}
