/** The payload of a job in a processing queue: the ids of one `schedule` call. */
import { PermanentError } from "@celery-metrics-exporter/runtime";
import { NewerPayloadError } from "../contract/errors.ts";

const VERSION = 1;

export interface IdsPayload {
  readonly v: typeof VERSION;
  readonly ids: readonly string[];
  /**
   * Jobs of the exporter's other queue that were begun when this was scheduled. They must finish first. Earlier releases do not write this.
   */
  readonly begun?: readonly string[];
}

export function encodeIds(ids: readonly string[], begun: readonly string[] = []): IdsPayload {
  return { v: VERSION, ids, ...(begun.length > 0 && { begun }) };
}

/** Never throws: `decodeIds` reports payloads that cannot be read. */
export function begunBefore(payload: unknown): readonly string[] {
  const { begun = [] } = (typeof payload === "object" && payload !== null ? payload : {}) as Partial<IdsPayload>;
  return Array.isArray(begun) ? begun.filter((id) => typeof id === "string") : [];
}

/**
 * @throws {NewerPayloadError} for a newer version.
 * @throws {PermanentError} for an older version, or anything that `encodeIds` did not write.
 */
export function decodeIds(payload: unknown): readonly string[] {
  const { v, ids } = (typeof payload === "object" && payload !== null ? payload : {}) as Partial<IdsPayload>;
  if (typeof v === "number" && v > VERSION) throw new NewerPayloadError("a list of ids", v);
  if (v !== VERSION) throw new PermanentError(`ids payload of unknown version ${JSON.stringify(v) ?? "(none)"}`);
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "string")) throw new PermanentError("ids payload is malformed");
  return ids;
}

/** The number of ids in a payload as stored in Redis; 1 if it cannot be read. */
export function idsIn(json: string): number {
  try {
    return decodeIds(JSON.parse(json)).length;
  } catch {
    return 1;
  }
}
