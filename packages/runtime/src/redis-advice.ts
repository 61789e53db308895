/** What may be wrong with the address of our Redis, by the error that connecting ends with. */
import { resetHint } from "./tls-options.ts";
import { KOMBU_TLS_NAMES } from "./tls-settings.ts";

export interface Connecting {
  readonly tls: object | undefined;
  /** The name that sentinels are asked for; undefined without sentinels. */
  readonly masterName: string | undefined;
}

export interface Advice {
  readonly text: string;
  /** Whether waiting does not help. */
  readonly isFinal: boolean;
}

/** Undefined for an error that speaks for itself. */
export function redisAdvice(error: Error, { tls, masterName }: Connecting): Advice | undefined {
  if (masterName !== undefined && /sentinel|No such master/i.test(error.message)) return sentinelAdvice(error.message, masterName);
  if (masterName !== undefined) return undefined;
  const { code = "" } = error as NodeJS.ErrnoException;
  const text = resetHint(error, tls, KOMBU_TLS_NAMES) ?? tlsAdvice(code, tls);
  return text === undefined ? undefined : { text, isFinal: false };
}

/** A server that expects TLS resets a connection without it. One without TLS waits for the end of what it takes for a command. */
function tlsAdvice(code: string, tls: object | undefined): string | undefined {
  if (tls === undefined && ["ECONNRESET", "EPIPE"].includes(code)) return `${code}: perhaps it speaks TLS on this port; then use rediss://`;
  if (tls !== undefined && code === "ETIMEDOUT") return "no answer to TLS: perhaps it does not speak TLS on this port; then use redis://";
  return undefined;
}

function sentinelAdvice(message: string, masterName: string): Advice | undefined {
  if (/No such master|invalid reply: null/.test(message)) {
    return { text: `the sentinels know no master named ${masterName}; set REDIS_SENTINEL_MASTER_NAME`, isFinal: true };
  }
  if (/sentinels.*(NOAUTH|WRONGPASS|without any password|invalid password)/i.test(message)) {
    return { text: "the sentinels refuse the password; set REDIS_SENTINEL_PASSWORD", isFinal: true };
  }
  if (/sentinels.*unknown command/i.test(message)) return { text: "it is a Redis and not a Sentinel; use redis://", isFinal: true };
  if (/sentinels.*(ECONNREFUSED|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN|ETIMEDOUT)/i.test(message)) {
    const reason = /Last error: (.*)$/s.exec(message)?.[1] ?? message;
    return { text: `no sentinel can be reached: ${reason}`, isFinal: false };
  }
  if (/sentinels.*(Connection is closed|ECONNRESET|EPIPE)/i.test(message)) {
    return { text: "the sentinels close the connection: perhaps they speak TLS; then set REDIS_SENTINEL_TLS=true", isFinal: false };
  }
  return undefined;
}
