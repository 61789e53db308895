/** One question to the API, and whether anybody answers. */
import { signal } from "@preact/signals";
import { parseExact } from "./exact.ts";

/** Whether the server answered the last question, in any way. */
export const isAnswering = signal(true);

/** A failed request, with a sentence for people. */
export class ApiError extends Error {
  /** 0 if there was no answer. */
  readonly status: number;
  readonly field: string | undefined;

  constructor(status: number, message: string, field?: string) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** What failed for a time is asked again so much later. */
export const RETRY_MS = 5_000;

/** Whether the same question may be answered later. */
export function isTemporary({ status }: ApiError): boolean {
  return status === 0 || status >= 500;
}

declare global {
  /** The first question of the page and its answer: `early.ts` asked it while the scripts were loaded. */
  var early: { readonly path: string; readonly answer: Promise<Response> } | undefined;
}

/** The answer that is already on its way, once. */
function takeEarly(path: string): Promise<Response> | undefined {
  const { early } = globalThis;
  if (early?.path !== path) return undefined;
  globalThis.early = undefined;
  return early.answer;
}

const ANSWER_MS = 20_000;

/** Asks `api/v1/<path>`. @throws {ApiError} */
export async function ask<T>(path: string, until?: AbortSignal): Promise<T> {
  const timeout = AbortSignal.timeout(ANSWER_MS);
  try {
    const answer = await (takeEarly(path) ??
      fetch(`./api/v1/${path}`, { signal: until === undefined ? timeout : AbortSignal.any([until, timeout]) }));
    const text = await answer.text();
    isAnswering.value = true;
    if (answer.ok) return parseAnswer(path, text) as T;
    const problem = parseProblem(text);
    throw new ApiError(answer.status, problem.detail ?? `The server answered with the status ${answer.status}.`, problem.field);
  } catch (thrown) {
    if (thrown instanceof ApiError || until?.aborted === true) throw thrown;
    isAnswering.value = false;
    throw new ApiError(0, timeout.aborted ? `The server did not answer within ${ANSWER_MS / 1_000} s.` : "The server does not answer.");
  }
}

/** Only a task has numbers of users. */
function parseAnswer(path: string, text: string): unknown {
  if (!/^tasks\/[^/?]+$/.test(path)) return JSON.parse(text);
  const { args_json, kwargs_json } = parseExact(text) as { args_json?: unknown; kwargs_json?: unknown };
  return { ...(JSON.parse(text) as object), args_json, kwargs_json };
}

function parseProblem(text: string): { readonly detail?: string; readonly field?: string } {
  try {
    return JSON.parse(text) as { detail?: string; field?: string };
  } catch {
    return {};
  }
}
