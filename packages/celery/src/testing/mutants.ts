/** Frames that no Celery sends: recorded frames with changed bytes, text, structure, fields or wrapping. */
import { Packr } from "msgpackr";
import { stringify } from "yaml";
import { encodeEnvelope } from "../wire/envelope.ts";
import type { Frame } from "../wire/frame.ts";
import { mutateBytes, mutateText, mutateValue } from "./mutations.ts";
import type { Random } from "./random.ts";

type Level = (typeof LEVELS)[number] | "yaml";

/** One frame to decode: a body, or kombu's envelope around one. */
export interface Mutant {
  readonly level: Level;
  readonly input: { readonly envelope: string | Buffer } | { readonly frame: Frame };
}

const LEVELS = ["bytes", "text", "structure", "msgpack", "envelope", "random"] as const;
/** A YAML frame takes a hundred times as long as the others. */
const YAML_EVERY = 50;
const CONTENT_TYPES = [
  "application/json",
  "application/x-msgpack",
  "application/x-yaml",
  "application/x-python-serialize",
  "application/data",
  "text/plain; charset=x",
  "",
] as const;
const ENCODINGS = ["utf-8", "binary", "utf-16le", "latin-1", "gb18030", "nonsense", ""] as const;
const JSON_TYPE = "application/json";
const MSGPACK_TYPE = "application/x-msgpack";

const packr = new Packr({ useRecords: false, variableMapSize: true });

/** @param events as sent over the wire, each in JSON. */
export function mutantOf(events: readonly string[], random: Random): Mutant {
  const level = random.below(YAML_EVERY) === 0 ? "yaml" : random.pick(LEVELS);
  const json = someOf(events, random);
  return { level, input: inputOf(level, json, random) };
}

function inputOf(level: Level, json: string, random: Random): Mutant["input"] {
  switch (level) {
    case "bytes":
      return { frame: { body: mutateBytes(Buffer.from(json), random), contentType: JSON_TYPE, contentEncoding: "utf-8" } };
    case "text":
      return { frame: { body: mutateText(json, random), contentType: JSON_TYPE } };
    case "structure":
      return { frame: { body: mutatedJson(json, random), contentType: JSON_TYPE } };
    case "msgpack":
      return { frame: { body: msgpackOf(json, random), contentType: MSGPACK_TYPE, contentEncoding: "binary" } };
    case "envelope":
      return { envelope: envelopeOf(json, random) };
    case "yaml":
      return { frame: { body: yamlOf(json, random), contentType: "application/x-yaml" } };
    case "random":
      return {
        frame: {
          body: random.bytes(random.below(300)),
          contentType: random.pick(CONTENT_TYPES),
          contentEncoding: random.pick(ENCODINGS),
        },
      };
    default:
      return level satisfies never;
  }
}

/** One event, or a list of up to five. */
function someOf(events: readonly string[], random: Random): string {
  const one = (): string => random.pick(events) ?? "";
  return random.below(3) === 0 ? one() : `[${Array.from({ length: random.below(6) }, one).join(",")}]`;
}

function mutatedJson(json: string, random: Random): string {
  return JSON.stringify(mutateValue(JSON.parse(json), random)) ?? "null";
}

/** A well-formed msgpack body with a changed value, or one with changed bytes. */
function msgpackOf(json: string, random: Random): Buffer {
  if (random.below(2) === 0) return mutateBytes(packr.pack(JSON.parse(json)), random);
  return packr.pack(JSON.parse(mutatedJson(json, random)));
}

function yamlOf(json: string, random: Random): string {
  return mutateText(stringify(JSON.parse(json)), random);
}

/** kombu's envelope, changed outside, inside, or both. */
function envelopeOf(json: string, random: Random): string | Buffer {
  const body = Buffer.from(random.below(2) === 0 ? mutatedJson(json, random) : json);
  const envelope = encodeEnvelope({
    body: random.below(4) === 0 ? mutateBytes(body, random) : body,
    contentEncoding: random.below(4) === 0 ? random.pick(ENCODINGS) : "utf-8",
    contentType: random.below(4) === 0 ? random.pick(CONTENT_TYPES) : JSON_TYPE,
    headers: { hostname: "w1@host-a" },
    routingKey: "task.multi",
    deliveryTag: "1", // fixed, so that a seed always gives the same mutant
  });
  const changed: unknown = random.below(3) === 0 ? mutateValue(JSON.parse(envelope), random) : JSON.parse(envelope);
  const text = JSON.stringify(changed) ?? "null";
  return random.below(3) === 0 ? mutateBytes(Buffer.from(text), random) : text;
}
