/** The native package `unix-dgram`, where it is: Node has no datagram sockets of the Unix domain. */
import type { EventEmitter } from "node:events";
import { createRequire } from "node:module";
import { ConfigError, toError } from "@celery-metrics-exporter/runtime";

/** What we use of its socket; the package has no types. */
export interface UnixDatagramSocket extends EventEmitter {
  /** Emits `connect` or `error` before it returns. */
  connect(path: string): void;
  /** Calls back before it returns; an error's code is 1 when the receiver's buffer is full. */
  send(packet: Buffer, callback: (error?: Error & { readonly code?: unknown }) => void): void;
  close(): void;
}

interface UnixDgram {
  createSocket(type: "unix_dgram"): UnixDatagramSocket;
}

/** Opens sockets. */
export type CreateUnixSocket = () => UnixDatagramSocket;

/** @throws {ConfigError} where the package is not installed, or was not built for this Node. */
export function loadUnixDatagrams(): CreateUnixSocket {
  try {
    const unixDgram = createRequire(import.meta.url)("unix-dgram") as UnixDgram;
    return () => unixDgram.createSocket("unix_dgram");
  } catch (thrown) {
    const reason = toError(thrown).message.split("\n")[0] ?? "";
    throw new ConfigError([
      `DD_DOGSTATSD_URL: unix:// needs the optional package unix-dgram, which cannot be loaded (${reason}). Install it with a C++ compiler at hand, or use udp://.`,
    ]);
  }
}
