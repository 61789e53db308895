/** YAML bodies (`event_serializer = "yaml"`): plain data only, and bounded, since this reader is slow and aliases can multiply. */
import { parse } from "yaml";

/** A frame of 24 events with everything Celery puts in is far below. */
export const MAX_YAML_LENGTH = 262_144;

/** @throws Error where it is not one YAML document of plain data within the bound. */
export function parseYaml(text: string): unknown {
  if (text.length > MAX_YAML_LENGTH) throw new Error("yaml: too long");
  return parse(text, {
    // PyYAML writes YAML 1.1: `1e5` unquoted is a string there, `yes` a boolean.
    version: "1.1",
    // Timestamps stay text: a Date would lose their microseconds.
    customTags: (tags) => tags.filter((tag) => tag !== "timestamp"),
    maxAliasCount: 100,
    // The check compares every key with every other.
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: "error",
  });
}
