/**
 * msgpack bodies (`event_serializer = "msgpack"`), checked before they are read.
 *
 * A reader trusts the lengths in the data: five bytes can claim a list of 33 million values and make it allocate that, and nesting can overflow its
 * stack. msgpackr also has extensions of its own (records compiled to code, regular expressions) that no Celery writes. So a body is walked once:
 * every value that it claims must be present, nesting is limited, and extensions are rejected.
 */
import { Packr, Unpackr } from "msgpackr";
import { Census, SMALL_BODY } from "../model/normalise.ts";

const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: "number" });

/**
 * @throws {TooLargeError} if it exceeds a limit.
 * @throws {Error} if the bytes are not exactly one msgpack value.
 */
export function parseMsgpack(bytes: Uint8Array): unknown {
  checkStructure(bytes);
  return unpackr.unpack(bytes);
}

const packr = new Packr({ useRecords: false });

/** Writes plain data as kombu's `msgpack` serializer does. */
export function writeMsgpack(value: unknown): Uint8Array {
  return packr.pack(value);
}

/** Bytes of content after each fixed-size head byte, from 0xc0 on: nil, booleans, floats, unsigned and signed integers. */
const FIXED_CONTENT: Readonly<Record<number, number>> = {
  0xc0: 0,
  0xc2: 0,
  0xc3: 0,
  0xca: 4,
  0xcb: 8,
  0xcc: 1,
  0xcd: 2,
  0xce: 4,
  0xcf: 8,
  0xd0: 1,
  0xd1: 2,
  0xd2: 4,
  0xd3: 8,
};

/** A list or map during the walk. */
interface Level {
  /** Number of remaining values; an entry of a map counts as two. */
  left: number;
  readonly isMap: boolean;
}

function checkStructure(bytes: Uint8Array): void {
  const census = new Census();
  const open: Level[] = [{ left: 1, isMap: false }];
  let position = 0;
  for (let level = open[0]; level !== undefined; level = open.at(-1)) {
    if (level.left === 0) {
      open.pop();
      continue;
    }
    const isKey = level.isMap && level.left % 2 === 0;
    level.left -= 1;
    const { contentBytes, children, headBytes, isMap = false } = readHead(bytes, position);
    const content = position + headBytes;
    position = content + contentBytes;
    if (position > bytes.length) throw new Error("msgpack: length beyond the end");
    if (!isKey) census.value();
    else if (bytes.length > SMALL_BODY) census.key(Buffer.from(bytes.buffer, bytes.byteOffset + content, contentBytes).toString("latin1"));
    if (children === 0) continue;
    census.depth(open.length);
    open.push({ left: children, isMap });
  }
}

interface Head {
  readonly headBytes: number;
  readonly contentBytes: number;
  /** Number of values inside; an entry of a map counts as two. */
  readonly children: number;
  readonly isMap?: true;
}

function readHead(bytes: Uint8Array, position: number): Head {
  const head = bytes[position];
  if (head === undefined) throw new Error("msgpack: ends too early");
  if (head <= 0x7f || head >= 0xe0) return { headBytes: 1, contentBytes: 0, children: 0 };
  if (head <= 0x8f) return { headBytes: 1, contentBytes: 0, children: (head & 0x0f) * 2, isMap: true };
  if (head <= 0x9f) return { headBytes: 1, contentBytes: 0, children: head & 0x0f };
  if (head <= 0xbf) return { headBytes: 1, contentBytes: head & 0x1f, children: 0 };
  const fixed = FIXED_CONTENT[head];
  if (fixed !== undefined) return { headBytes: 1, contentBytes: fixed, children: 0 };
  switch (head) {
    case 0xc4:
    case 0xd9:
      return { headBytes: 2, contentBytes: lengthAt(bytes, position, 1), children: 0 };
    case 0xc5:
    case 0xda:
      return { headBytes: 3, contentBytes: lengthAt(bytes, position, 2), children: 0 };
    case 0xc6:
    case 0xdb:
      return { headBytes: 5, contentBytes: lengthAt(bytes, position, 4), children: 0 };
    case 0xdc:
      return { headBytes: 3, contentBytes: 0, children: lengthAt(bytes, position, 2) };
    case 0xdd:
      return { headBytes: 5, contentBytes: 0, children: lengthAt(bytes, position, 4) };
    case 0xde:
      return { headBytes: 3, contentBytes: 0, children: lengthAt(bytes, position, 2) * 2, isMap: true };
    case 0xdf:
      return { headBytes: 5, contentBytes: 0, children: lengthAt(bytes, position, 4) * 2, isMap: true };
    default:
      throw new Error("msgpack: extension type");
  }
}

function lengthAt(bytes: Uint8Array, position: number, size: 1 | 2 | 4): number {
  let length = 0;
  for (let index = 1; index <= size; index += 1) length = length * 256 + (bytes[position + index] ?? 0);
  return length;
}
