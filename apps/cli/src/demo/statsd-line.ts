/** DogStatsD's line: `name:value:value|type|#tag:value,tag:value` (docs.datadoghq.com, "Datagram format"). */

export interface StatsdLine {
  readonly name: string;
  readonly values: readonly number[];
  readonly type: string;
  readonly tags: ReadonlyMap<string, string>;
}

const METRIC = /^([\w.]+):([^|]+)\|(c|g|d|h|ms)((?:\|[^|]+)*)$/;

/** Undefined when it is no metric. */
export function parseStatsdLine(text: string): StatsdLine | undefined {
  const [, name = "", packed = "", type = "", rest = ""] = METRIC.exec(text) ?? [];
  const values = packed.split(":").map((value) => (value === "" ? NaN : Number(value)));
  if (name === "" || !values.every(Number.isFinite)) return undefined;
  const section = rest.split("|").find((part) => part.startsWith("#"));
  const tags = (section?.slice(1).split(",") ?? []).map((tag) => {
    const [key = "", ...value] = tag.split(":");
    return [key, value.join(":")] as const;
  });
  return { name, values, type, tags: new Map(tags) };
}
