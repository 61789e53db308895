/** One fuzzing run over the decoders and the repr parser: mutants of the recorded frames, each checked against the rules for any input. */
import { isDeepStrictEqual } from "node:util";
import { decodeAgain, decodeEnvelope } from "../wire/envelope.ts";
import { decodeFrame } from "../wire/decode.ts";
import type { CeleryEvent } from "../model/event.ts";
import { REJECT_REASONS, type Decoded, type RejectReason } from "../wire/frame.ts";
import { parseMsgpack } from "../wire/msgpack.ts";
import { parsePythonLiteral } from "../python/literal.ts";
import { type CorpusFrame, corpusNames, readCorpus } from "./corpus.ts";
import { eventProblems } from "./event-problems.ts";
import { type Mutant, mutantOf } from "./mutants.ts";
import { mutateText } from "./mutations.ts";
import { Random } from "./random.ts";

const MAX_RAW_LENGTH = 4_096;
/** A frame that takes longer is tried again, because the machine may have been busy. */
const MAX_MS = 1_000;
const TRIES = 3;

export interface FuzzTally {
  frames: number;
  events: number;
  /** By reason. */
  readonly rejects: Record<string, number>;
  /** Number of reprs that became JSON. */
  literals: number;
  slowestMs: number;
}

export class Fuzzer {
  readonly tally: FuzzTally = { frames: 0, events: 0, rejects: {}, literals: 0, slowestMs: 0 };
  readonly #random: Random;
  readonly #samples: readonly string[] = corpusNames.flatMap((name) => readCorpus(name).frames.flatMap(rawEvents));

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  /**
   * Makes one mutant and decodes it.
   *
   * @returns the events decoded from it.
   * @throws {Error} if a rule is broken; the message contains the mutant.
   */
  next(): readonly CeleryEvent[] {
    const mutant = mutantOf(this.#samples, this.#random);
    this.tally.frames += 1;
    try {
      const decoded = this.#decodeInTime(mutant);
      this.#check(decoded, mutant);
      this.#checkLiteral(this.#repr(), mutateText);
      return decoded.events;
    } catch (cause) {
      const problem = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`frame ${this.tally.frames} (${mutant.level}): ${problem}\n${describe(mutant)}`, { cause });
    }
  }

  #decodeInTime(mutant: Mutant): Decoded {
    let fastestMs = Number.POSITIVE_INFINITY;
    for (let attempt = 1; ; attempt++) {
      const start = performance.now();
      const decoded = decode(mutant);
      fastestMs = Math.min(fastestMs, performance.now() - start);
      if (fastestMs <= MAX_MS) {
        this.tally.slowestMs = Math.max(this.tally.slowestMs, fastestMs);
        return decoded;
      }
      if (attempt === TRIES) throw new Error(`took ${Math.round(fastestMs)} ms`);
    }
  }

  #check({ events, rejected }: Decoded, mutant: Mutant): void {
    for (const event of events) {
      const problems = eventProblems(event);
      if (problems.length > 0) throw new Error(`event with wrong ${problems.join(", ")}: ${JSON.stringify(event)}`);
      for (const field of ["args", "kwargs", "result"]) {
        const repr = Object.entries(event).find(([name]) => name === field)?.[1] as unknown;
        if (typeof repr === "string") this.#checkLiteral(repr);
      }
    }
    for (const { reason, detail, raw, readAs, count } of rejected) {
      if (!REJECT_REASONS.includes(reason)) throw new Error(`rejected for ${reason}`);
      if (detail === "" || count < 1 || raw.length > MAX_RAW_LENGTH || !raw.isWellFormed())
        throw new Error(`rejected as ${detail}: ${raw}`);
      this.tally.rejects[reason] = (this.tally.rejects[reason] ?? 0) + count;
      if (readAs === undefined) continue;
      const again = decodeAgain(raw, readAs);
      if (again === undefined || !isRejectedAlone(again, reason)) throw new Error(`read again as ${JSON.stringify(again)}`);
    }
    if (events.length + rejected.length === 0 && !isEmptyList(mutant)) throw new Error("neither events nor rejects");
    this.tally.events += events.length;
    if ("polluted" in {}) throw new Error("a prototype is polluted");
  }

  #repr(): string {
    const sample = JSON.parse(this.#random.pick(this.#samples) ?? "{}") as Readonly<Record<string, string>>;
    return sample["kwargs"] ?? sample["result"] ?? "{'a': (1, [None, {2.5, 'x'}], frozenset({True}))}";
  }

  #checkLiteral(repr: string, change?: (text: string, random: Random) => string): void {
    const text = change === undefined ? repr : change(repr, this.#random);
    const parsed = parsePythonLiteral(text);
    if (!parsed.ok) return;
    this.tally.literals += 1;
    const json = JSON.stringify(parsed.value);
    // JSON.stringify writes lone surrogates and NUL as escapes, which jsonb refuses.
    if (/\\u(?:0000|d[89a-f])/i.test(json.replaceAll("\\\\", ""))) throw new Error(`not for jsonb: ${text}`);
    if (!isDeepStrictEqual(JSON.parse(json), parsed.value)) throw new Error(`not JSON: ${text}`);
  }
}

function decode({ input }: Mutant): Decoded {
  return "envelope" in input ? decodeEnvelope(input.envelope) : decodeFrame(input.frame);
}

function isRejectedAlone({ events, rejected }: Decoded, reason: RejectReason): boolean {
  return events.length === 0 && rejected.length === 1 && rejected[0]?.reason === reason;
}

/** Workers send empty lists; nothing is left of the mutated events in them. */
function isEmptyList(mutant: Mutant): boolean {
  const { events, rejected } = decode(mutant);
  return events.length === 0 && rejected.length === 0;
}

function describe({ input }: Mutant): string {
  if ("envelope" in input) return `envelope ${JSON.stringify(input.envelope.toString())}`;
  const { body, ...rest } = input.frame;
  return JSON.stringify({ ...rest, body: typeof body === "string" ? body : Buffer.from(body).toString("hex") });
}

/** As sent over the wire, each in JSON. */
function rawEvents(frame: CorpusFrame): string[] {
  const value = rawBody(frame);
  return (Array.isArray(value) ? value : [value]).map((event) => JSON.stringify(event));
}

function rawBody(frame: CorpusFrame): unknown {
  if (frame.transport === "redis") {
    const { body } = JSON.parse(frame.payload) as { readonly body: string };
    return JSON.parse(Buffer.from(body, "base64").toString());
  }
  return frame.properties.contentType.includes("msgpack") ? parseMsgpack(frame.body) : JSON.parse(frame.body.toString());
}
