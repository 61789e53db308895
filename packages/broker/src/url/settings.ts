/** The settings after `?` in a broker URL, as kombu reads them: those that mean something here, and a word on the others. */
import { KOMBU_TLS_NAMES, editDistance } from "@celery-metrics-exporter/runtime";

/** How to log in to RabbitMQ: by user and password in one of two forms, or by our certificate. */
export type LoginMethod = "PLAIN" | "AMQPLAIN" | "EXTERNAL";

const LOGIN_METHODS: readonly LoginMethod[] = ["PLAIN", "AMQPLAIN", "EXTERNAL"];

/** As py-amqp knows it (amqp/sasl.py); undefined for one that is not supported. */
export function parseLoginMethod(name: string | null): LoginMethod | undefined {
  return name === null ? "PLAIN" : LOGIN_METHODS.find((method) => method === name.toUpperCase());
}

export const LOGIN_METHODS_TEXT = "login_method must be PLAIN, AMQPLAIN or EXTERNAL";

/** Used here. */
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

/** Settings of kombu, py-amqp and redis-py that change nothing for a receiver. */
const HARMLESS =
  /^(heartbeat|connect_timeout|failover_strategy|insist|confirm_publish|(read|write)_timeout|socket_\w+|health_check_interval|max_connections|retry_on_timeout|visibility_timeout|client_name|protocol)$/;

/** A name this close to one of ours is a misspelling of it. */
const MAX_TYPOS = 2;

/** Transport options, which belong into Celery's `broker_transport_options` there, and into settings of their own here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  master_name: "CELERY_SENTINEL_MASTER_NAME",
  global_keyprefix: "CELERY_GLOBAL_KEYPREFIX",
  fanout_prefix: "CELERY_FANOUT_PREFIX",
  fanout_patterns: "CELERY_FANOUT_PATTERNS",
};

/** TLS settings of kombu, py-amqp and redis-py that are not supported: they only narrow what is trusted or offered. */
const UNSUPPORTED_TLS =
  /^ssl_(version|min_version|ciphers|ca_path|ca_data|keyfile_password|validate_ocsp(_stapled)?|do_handshake_on_connect|suppress_ragged_eofs)$/;

/**
 * What is ignored although it may be meant to have an effect. kombu ignores unknown settings too, so they are no reason to refuse a URL that
 * Celery takes; and a mistyped TLS setting leaves the checks on. Values are never repeated.
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
  return nearest === undefined ? `known are ${USED.join(", ")}` : `did you mean ${nearest}?`;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z]/g, "");
}
