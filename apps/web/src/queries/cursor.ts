/** The place in a list at which the next page begins. Opaque for clients. */
import { createHash } from "node:crypto";
import { z } from "zod";

/** Rows come after this place if they are older, or as old with a smaller id. */
export interface Place {
  /** ISO 8601, up to microseconds. */
  readonly seenAt: string;
  readonly taskId: string;
}

export interface Cursor {
  readonly after: Place;
  /** The beginning of the range, fixed by the first page; null without one. */
  readonly from: string | null;
}

const Encoded = z.tuple([z.string(), z.iso.datetime(), z.string(), z.iso.datetime().nullable()]);

/** @param filters anything that JSON can write; the cursor fits only the same filters. */
export function encodeCursor({ after, from }: Cursor, filters: unknown): string {
  const encoded: z.output<typeof Encoded> = [hashOf(filters), after.seenAt, after.taskId, from];
  return Buffer.from(JSON.stringify(encoded)).toString("base64url");
}

/** Undefined if it is no cursor, or one of other filters. */
export function decodeCursor(text: string, filters: unknown): Cursor | undefined {
  try {
    const [hash, seenAt, taskId, from] = Encoded.parse(JSON.parse(Buffer.from(text, "base64url").toString("utf8")));
    return hash === hashOf(filters) ? { after: { seenAt, taskId }, from } : undefined;
  } catch {
    return undefined;
  }
}

function hashOf(filters: unknown): string {
  return createHash("sha256").update(JSON.stringify(filters)).digest("base64url").slice(0, 16);
}
