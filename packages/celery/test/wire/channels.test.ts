import { describe, expect, it } from "vitest";
import { eventChannels, type EventChannels, type EventChannelsOptions } from "../../src/wire/channels.ts";

const rows: readonly (readonly [given: string, options: EventChannelsOptions, expected: EventChannels])[] = [
  ["kombu's defaults, whether the workers use patterns or not", { db: 0 }, { patterns: ["/0.celeryev/*"], channels: ["/0.celeryev"] }],
  ["another database", { db: 3, fanoutPatterns: true }, { patterns: ["/3.celeryev/*"], channels: [] }],
  ["fanout_patterns off", { db: 0, fanoutPatterns: false }, { patterns: [], channels: ["/0.celeryev"] }],
  ["another event_exchange", { db: 0, exchange: "events", fanoutPatterns: true }, { patterns: ["/0.events/*"], channels: [] }],
  ["fanout_prefix on", { db: 1, fanoutPrefix: true, fanoutPatterns: true }, { patterns: ["/1.celeryev/*"], channels: [] }],
  ["fanout_prefix off", { db: 1, fanoutPrefix: false, fanoutPatterns: true }, { patterns: ["celeryev/*"], channels: [] }],
  ["an empty fanout_prefix, which is off", { db: 1, fanoutPrefix: "", fanoutPatterns: true }, { patterns: ["celeryev/*"], channels: [] }],
  ["a custom fanout_prefix", { db: 2, fanoutPrefix: "app-{db}:", fanoutPatterns: true }, { patterns: ["app-2:celeryev/*"], channels: [] }],
  ["braces in a fanout_prefix", { db: 2, fanoutPrefix: "{{{db}}}.", fanoutPatterns: true }, { patterns: ["{2}.celeryev/*"], channels: [] }],
  ["a global_keyprefix", { db: 0, globalKeyprefix: "shop:", fanoutPatterns: true }, { patterns: ["shop:/0.celeryev/*"], channels: [] }],
  [
    "glob characters in names, escaped in patterns only",
    { db: 0, globalKeyprefix: "a*b?[c]^-\\:", exchange: "ev*" },
    { patterns: ["a\\*b\\?\\[c\\]^-\\\\:/0.ev\\*/*"], channels: ["a*b?[c]^-\\:/0.ev*"] },
  ],
  [
    "Sentinel, for which kombu before 5.4.0 leaves {db} in",
    { db: 0, sentinel: true },
    { patterns: ["/0.celeryev/*", "/{db}.celeryev/*"], channels: ["/0.celeryev", "/{db}.celeryev"] },
  ],
  [
    "Sentinel with a custom prefix without {db}",
    { db: 0, sentinel: true, fanoutPrefix: "x.", fanoutPatterns: true },
    { patterns: ["x.celeryev/*"], channels: [] },
  ],
  [
    "Sentinel, database 2, without patterns, behind a key prefix",
    { db: 2, sentinel: true, fanoutPatterns: false, globalKeyprefix: "k:" },
    { patterns: [], channels: ["k:/2.celeryev", "k:/{db}.celeryev"] },
  ],
];

describe("eventChannels", () => {
  it.each(rows)("covers %s", (_given, options, expected) => {
    expect(eventChannels(options)).toEqual(expected);
  });
});
