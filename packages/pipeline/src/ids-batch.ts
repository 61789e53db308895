/** The payload of a job of a processing queue: the ids of one `schedule` call. */
import { PermanentError } from "./errors.ts";

export interface IdsPayload {
  readonly v: 1;
  readonly ids: readonly string[];
}

export function encodeIds(ids: readonly string[]): IdsPayload {
  return { v: 1, ids };
}

/** @throws {PermanentError} for an unknown version, or anything that `encodeIds` has not written. */
export function decodeIds(payload: unknown): readonly string[] {
  const { v, ids } = (typeof payload === "object" && payload !== null ? payload : {}) as Partial<IdsPayload>;
  if (v !== 1) throw new PermanentError(`ids payload of unknown version ${JSON.stringify(v) ?? "(none)"}`);
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "string")) throw new PermanentError("ids payload is malformed");
  return ids;
}
