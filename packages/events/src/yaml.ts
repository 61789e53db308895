/** YAML bodies (`event_serializer = "yaml"`): plain data only, and bounded, since this reader is slow and aliases can multiply. */
import { parse, type ScalarTag } from "yaml";

/** A frame of 24 events with everything Celery puts in is far below. */
export const MAX_YAML_LENGTH = 262_144;

/**
 * Numbers as PyYAML writes them. What else YAML 1.1 takes for numbers and instants (`1e5`, `0189`, `1:30`, `2026-11-22`) PyYAML either quotes
 * or writes plain for a *string*, such as a task id; and a `Date` would lose an instant's microseconds.
 */
const PYYAML_NUMBER: ScalarTag = {
  tag: "tag:yaml.org,2002:float",
  default: true,
  test: /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:e[-+][0-9]+)?)?$/,
  resolve: Number,
};

/** @throws Error where it is not one YAML document of plain data within the bound. */
export function parseYaml(text: string): unknown {
  if (text.length > MAX_YAML_LENGTH) throw new Error("yaml: too long");
  return parse(text, {
    version: "1.1",
    schema: "failsafe",
    customTags: ["null", "bool", PYYAML_NUMBER],
    merge: false,
    maxAliasCount: 100,
    // The check compares every key with every other.
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: "error",
  });
}
