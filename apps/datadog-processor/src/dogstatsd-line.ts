/**
 * Writes series as DogStatsD packets (docs.datadoghq.com/developers/dogstatsd/datagram_shell, protocol 1.1): lines
 * `name:value:value|type|#tags`, several values packed into a line, several lines into a packet.
 */
import type { Series } from "./series.ts";

/** Values are written with at most this many decimals: nanoseconds. */
const DECIMALS = 9;

/**
 * Packs series into packets of at most `maxPacketBytes`. A line that is longer with a single value is a packet of its own: the agent's buffer
 * (8,192 bytes) still takes it.
 */
export function encodePackets(series: readonly Series[], maxPacketBytes: number): Buffer[] {
  const packets: Buffer[] = [];
  let packet = "";
  let size = 0;
  for (const each of series) {
    for (const [line, bytes] of encodeLines(each, maxPacketBytes)) {
      if (packet !== "" && size + 1 + bytes > maxPacketBytes) {
        packets.push(Buffer.from(packet));
        packet = "";
      }
      size = packet === "" ? bytes : size + 1 + bytes;
      packet = packet === "" ? line : `${packet}\n${line}`;
    }
  }
  if (packet !== "") packets.push(Buffer.from(packet));
  return packets;
}

/** Lines of at most `maxBytes`, each with its size in bytes. */
function* encodeLines({ name, type, tags, values }: Series, maxBytes: number): Generator<[line: string, bytes: number]> {
  const tail = tags === "" ? `|${type}` : `|${type}|#${tags}`;
  const frameBytes = Buffer.byteLength(name) + Buffer.byteLength(tail);
  let packed = "";
  for (const value of values) {
    const text = `:${formatNumber(value)}`;
    if (packed !== "" && frameBytes + packed.length + text.length > maxBytes) {
      yield [name + packed + tail, frameBytes + packed.length];
      packed = "";
    }
    packed += text;
  }
  if (packed !== "") yield [name + packed + tail, frameBytes + packed.length];
}

/** Decimal, without an exponent: not every DogStatsD server reads one. */
function formatNumber(value: number): string {
  const text = String(value);
  if (text.length <= 12 && !text.includes("e")) return text;
  return value.toFixed(DECIMALS).replace(/0+$/, "").replace(/\.$/, "");
}
