/** What the Store's entries hold, byte for byte: processes of two releases may share a Store. */
import { MAX_TIMESTAMP, type TaskEvent } from "@celery-metrics-exporter/celery";
import {
  customEvent,
  taskFailed,
  taskNotRegistered,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { hash32, hostnameHash, remembering, splitUtf8 } from "../../src/facts/encoding.ts";
import { detailsOf, factOf } from "../../src/facts/fact.ts";
import { byInstant, countNotAfter, groupBy, inOrder, latestNotAfter } from "../../src/facts/order.ts";
import { collectChanges } from "../../src/facts/task-changes.ts";
import { parseTaskEntry } from "../../src/facts/task-entry.ts";
import { TextCollector, storedText } from "../../src/facts/texts.ts";

const AT = { timestamp: 1_795_328_900.123456 };
const PLAIN = { keepWorker: false, keepException: false };
const DETAILED = { keepWorker: true, keepException: true };

const NAMED = { name: "celery", queue: "mail" };
const { traceback: _traceback, ...withoutTraceback } = taskFailed(AT);
const { runtime: _runtime, ...withoutRuntime } = taskSucceeded(AT);

const read = (field: string, value = "") => parseTaskEntry([field, value]).facts;
const fact = (at: number, field = "a") => ({ at, field });

describe("a fact is written as", () => {
  it.each<[string | undefined, TaskEvent]>([
    ["shoe2pl44zk.ctod.e96t.3.joxvbdj37k", taskSent({ ...AT, ...NAMED, retries: 3, eta: 2e9 })],
    ["shoe2pl44zk.ctod!.e96t", taskSent({ ...AT, ...NAMED, excluded: true, retries: 0 })],
    ["shoe2pl44zk", taskSent({ ...AT, name: "", queue: "" })],
    ["shoe2pl44zk...1", taskSent({ ...AT, name: "", queue: "", retries: 1 })],
    ["rhoe2pl44zk.fkx18.ctod.1", taskReceived({ ...AT, name: "celery", retries: 1 })],
    ["rhoe2pl44zk.fkx18.ctod!", taskReceived({ ...AT, name: "celery", retries: 0, excluded: true })],
    ["rhoe2pl44zk.fkx18.ctod", taskReceived({ ...AT, name: "celery", retries: 0, excluded: false })],
    ["rhoe2pl44zk.fkx18.ctod..joxvbdj37k", taskReceived({ ...AT, name: "celery", retries: 0, eta: 2e9 })],
    ["bhoe2pl44zk.fkx18", taskStarted(AT)],
    ["b0.fkx18", taskStarted({ timestamp: -1 })],
    [`b${(MAX_TIMESTAMP * 1e6).toString(36)}.fkx18`, taskStarted({ timestamp: MAX_TIMESTAMP + 1 })],
    ["fhoe2pl44zk.fkx18.Sot27eo", taskSucceeded({ ...AT, runtime: 1.5 })],
    ["fhoe2pl44zk.fkx18.S0", taskSucceeded({ ...AT, runtime: 0 })],
    ["fhoe2pl44zk.fkx18.S0", taskSucceeded({ ...AT, runtime: -1 })],
    [`fhoe2pl44zk.fkx18.S${Number.MAX_SAFE_INTEGER.toString(36)}`, taskSucceeded({ ...AT, runtime: 1e9 })],
    ["fhoe2pl44zk.fkx18.S", withoutRuntime],
    ["fhoe2pl44zk.fkx18.F", taskFailed(AT)],
    ["fhoe2pl44zk.fkx18.F1", taskFailed({ ...AT, exception: "SystemExit(-241)" })],
    ["fhoe2pl44zk.fkx18.F0", taskNotRegistered(AT)],
    ["fhoe2pl44zk.fkx18.F", taskFailed({ ...AT, exception: "NotRegistered('x')" })],
    ["fhoe2pl44zk.fkx18.F", { ...withoutTraceback, exception: "MyNotRegistered('x')" }],
    ["fhoe2pl44zk.fkx18.V1", taskRevoked({ ...AT, terminated: true })],
    ["fhoe2pl44zk.fkx18.V", taskRevoked({ ...AT, terminated: false })],
    ["fhoe2pl44zk.fkx18.J", taskRejected(AT)],
    [undefined, taskRejected({ ...AT, requeue: true })],
    ["yhoe2pl44zk.fkx18", taskRetried(AT)],
  ])("%s", (field, event) => {
    expect(factOf(event)).toBe(field);
  });
});

describe("a fact is read", () => {
  it("with all that it holds", () => {
    const at = 1_795_328_900_123_456;
    const message = { at, reported: false, name: "ctod", excluded: false };
    expect(read("shoe2pl44zk.ctod.e96t.3.joxvbdj37k").sent).toEqual([
      { field: "shoe2pl44zk.ctod.e96t.3.joxvbdj37k", ...message, queue: "e96t", retries: 3, eta: 2e15 },
    ]);
    expect(read("shoe2pl44zk.ctod!.e96t").sent).toEqual([
      { field: "shoe2pl44zk.ctod!.e96t", ...message, excluded: true, queue: "e96t", retries: 0, eta: undefined },
    ]);
    expect(read("rhoe2pl44zk.fkx18.ctod.1.joxvbdj37k").received).toEqual([
      { field: "rhoe2pl44zk.fkx18.ctod.1.joxvbdj37k", ...message, hostname: "fkx18", retries: 1, eta: 2e15 },
    ]);
    expect(read("rhoe2pl44zk.fkx18.ctod!").received).toEqual([
      { field: "rhoe2pl44zk.fkx18.ctod!", ...message, excluded: true, hostname: "fkx18", retries: 0, eta: undefined },
    ]);
    expect(parseTaskEntry(["bhoe2pl44zk.fkx18", "|w1@a", "o", "t"]).facts.started).toEqual([
      { field: "bhoe2pl44zk.fkx18", at, reported: true, hostname: "fkx18", worker: "w1@a" },
    ]);
  });

  it.each([
    ["S", { state: "SUCCESS", runtime: undefined, terminated: false, unbegun: false }],
    ["S0", { state: "SUCCESS", runtime: 0, terminated: false, unbegun: false }],
    ["S1", { state: "SUCCESS", runtime: 1e-9, terminated: false, unbegun: false }],
    ["F", { state: "FAILURE", runtime: undefined, terminated: false, unbegun: false }],
    ["F1", { state: "FAILURE", runtime: undefined, terminated: true, unbegun: false }],
    ["F0", { state: "FAILURE", runtime: undefined, terminated: false, unbegun: true }],
    ["V", { state: "REVOKED", runtime: undefined, terminated: false, unbegun: true }],
    ["V1", { state: "REVOKED", runtime: undefined, terminated: true, unbegun: false }],
    ["J", { state: "REJECTED", runtime: undefined, terminated: false, unbegun: false }],
    ["J0", { state: "REJECTED", runtime: undefined, terminated: false, unbegun: false }],
  ])("as what its outcome %s says", (outcome, expected) => {
    const [final] = read(`fa.h.${outcome}`).finals;
    expect(final).toEqual({
      field: `fa.h.${outcome}`,
      at: 10,
      reported: false,
      hostname: "h",
      worker: undefined,
      exception: undefined,
      ...expected,
    });
  });

  it.each([
    ["1796688000", "", false],
    ["1796688000:1796083200000:1796083260000:7", "", false],
    ["1796688000s", "0", false],
    ["1796688000s", "", true],
    ["t", "0|w1@a", false],
    ["t:1796083200000:1796083260000:7s", "|w1@a", true],
  ])("as reported or not, in an entry whose state is %j, with the value %j", (state, value, reported) => {
    expect(parseTaskEntry(["o", state, "fa.h.F", value]).facts.finals).toMatchObject([{ reported }]);
  });

  it.each([
    ["", undefined, undefined],
    ["0", undefined, undefined],
    ["0|", undefined, undefined],
    ["|w", "w", undefined],
    ["|w|E", "w", "E"],
    ["0||E", undefined, "E"],
  ])("with the details of %j", (value, worker, exception) => {
    expect(read("fa.h.F", value).finals).toMatchObject([{ worker, exception }]);
  });
});

describe("the details of a fact", () => {
  it.each([
    ["|w1@host-a|ValueError", taskFailed({ hostname: "w1@host-a", exception: "ValueError('x')" }), DETAILED],
    ["|w1@host-a", taskFailed({ hostname: "w1@host-a", exception: "<x>" }), DETAILED],
    ["|w1@host-a", taskStarted({ hostname: "w1@host-a" }), DETAILED],
    ["||ValueError", taskFailed({ exception: "ValueError('x')" }), { keepWorker: false, keepException: true }],
    ["|w1@host-a", taskFailed({ hostname: "w1@host-a" }), { keepWorker: true, keepException: false }],
    ["|w1@host-a", taskRetried({ hostname: "w1@host-a", exception: "ValueError('x')" }), DETAILED],
    ["", taskSucceeded(), { keepWorker: false, keepException: true }],
    ["", taskReceived(), DETAILED],
    [`|${"w".repeat(200)}`, taskStarted({ hostname: "w".repeat(300) }), DETAILED],
    ["|a_b_", taskStarted({ hostname: "a|b\ud800" }), DETAILED],
  ] as const)("are %s", (value, event, options) => {
    expect(detailsOf(event, options)).toBe(value);
  });
});

describe("a text is stored", () => {
  it.each([
    ["celery", ["nctod", "celery"]],
    ["x".repeat(130), ["nnsgl", "x".repeat(60), "nnsgl1", "x".repeat(60), "nnsgl2", "x".repeat(10)]],
    ["y".repeat(500), ["", "1", "2", "3"].flatMap((part) => [`n7ut4${part}`, "y".repeat(60)])],
  ])("in parts: %s", (text, fields) => {
    expect(storedText(text)).toEqual({ key: fields[0]?.slice(1), fields });
    expect(storedText(text)).toBe(storedText(text));
  });

  it("without half a character", () => {
    expect(storedText("a\ud800").fields[1]).toBe("a\ufffd");
  });

  it("under a key of four characters, however small its hash", () => {
    const texts = Array.from({ length: 500 }, (_, index) => storedText(`task-${index}`));
    expect(new Set(texts.map(({ key }) => key.length))).toEqual(new Set([4]));
    expect(texts.some(({ key }) => key.startsWith("0"))).toBe(true);
  });

  it("anew once too many are known", () => {
    const first = storedText("first");
    for (let index = 0; index < 10_000; index += 1) storedText(`other ${index}`);
    expect(storedText("first")).not.toBe(first);
    expect(storedText("first")).toEqual(first);
  });

  it("and put together in whatever order its parts come", () => {
    const fields = ["nnsgl2", "c", "nnsgl", "a", "nctod", "celery", "nnsgl1", "b", "nothe3", "z"];
    const texts = new TextCollector();
    for (let index = 0; index < fields.length; index += 2) texts.add(fields[index] ?? "", fields[index + 1] ?? "");
    const expected = new Map([
      ["nsgl", "abc"],
      ["ctod", "celery"],
      ["othe", "z"],
    ]);
    expect(texts.all()).toEqual(expected);
    expect(texts.all()).toEqual(expected);
  });
});

describe("a hash", () => {
  it.each([
    ["", 2_872_998_923, "iic5n"],
    ["a", 444_641_715, "cq7qr"],
    ["celery@worker-1", 1_393_412_829, "1lo7x"],
    ["é", 3_136_788_073, "vk961"],
  ])("of %j is the same for all releases", (text, hash, hostname) => {
    expect(hash32(text)).toBe(hash);
    expect(hostnameHash(text)).toBe(hostname);
  });
});

it("what is remembered of a text is worked out once, until there are too many texts", () => {
  const workedOut: string[] = [];
  const length = remembering(2, (text) => workedOut.push(text) && text.length);
  expect(["a", "bb", "a", "bb"].map(length)).toEqual([1, 2, 1, 2]);
  expect(workedOut).toEqual(["a", "bb"]);
  expect(["ccc", "ccc", "a"].map(length)).toEqual([3, 3, 1]);
  expect(workedOut).toEqual(["a", "bb", "ccc", "a"]);
});

describe("a text by its bytes", () => {
  it("is one part, if it is empty or fits", () => {
    expect(splitUtf8("", 3, 4)).toEqual([""]);
    expect(splitUtf8("€", 3, 4)).toEqual(["€"]);
  });

  it("comes together again from its parts in any order", () => {
    const text = Array.from({ length: 60 }, (_, index) => `é${index}`).join("");
    const { key, fields } = storedText(text);
    const orders = [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [1, 3, 0, 2],
    ];
    for (const order of orders) {
      const collector = new TextCollector();
      for (const part of order) collector.add(fields[2 * part] ?? "", fields[2 * part + 1] ?? "");
      expect(collector.all()).toEqual(new Map([[key, text]]));
    }
  });

  it.each([
    ["abc", 3, 4, ["abc"]],
    ["abcd", 3, 4, ["abc", "d"]],
    ["ééé", 4, 4, ["éé", "é"]],
    ["aéé", 4, 4, ["aé", "é"]],
    ["😀😀", 7, 4, ["😀", "😀"]],
    ["abcdefg", 2, 2, ["ab", "cd"]],
    ["abcd", 2, 2, ["ab", "cd"]],
    ["ééééé", 10, 1, ["ééééé"]],
    ["ééé", 5, 1, ["éé"]],
  ])("%s in parts of %i, at most %i", (text, maxBytes, maxParts, parts) => {
    expect(splitUtf8(text, maxBytes, maxParts)).toEqual(parts);
  });
});

describe("facts in order", () => {
  const facts = [1, 3, 3, 5].map((at) => fact(at));

  it("are by instant, then by field", () => {
    const mixed = [fact(2, "b"), fact(1, "z"), fact(2, "a")];
    expect(inOrder(mixed)).toEqual([fact(1, "z"), fact(2, "a"), fact(2, "b")]);
    expect(inOrder(mixed.toReversed())).toEqual(inOrder(mixed));
    expect([byInstant(fact(1, "a"), fact(1, "b")), byInstant(fact(1, "b"), fact(1, "a")), byInstant(fact(1), fact(1))]).toEqual([-1, 1, 0]);
  });

  it.each([
    [0, 0],
    [1, 1],
    [2, 1],
    [3, 3],
    [4, 3],
    [5, 4],
    [6, 4],
  ])("not after %i are so many: %i", (at, count) => {
    expect(countNotAfter(facts, at)).toBe(count);
    expect(latestNotAfter(facts, at)).toBe(facts[count - 1]);
  });

  it("are grouped in the order they come", () => {
    expect(groupBy([1, 2, 3, 4], (number) => number % 2)).toEqual(
      new Map([
        [1, [1, 3]],
        [0, [2, 4]],
      ]),
    );
  });
});

describe("what a batch adds", () => {
  it("to a task: each fact and text once, and the latest ETA, rounded up", () => {
    const sent = taskSent({ ...AT, ...NAMED, eta: 2e9 + 0.5 });
    const received = taskReceived({ ...AT, name: "celery", eta: 2e9 });
    const events = [sent, sent, received, taskRetried(AT), taskStarted(AT), customEvent()];
    expect(collectChanges(events, PLAIN)).toEqual(
      new Map([
        [
          sent.uuid,
          {
            facts: [factOf(sent), factOf(received), factOf(taskRetried(AT)), factOf(taskStarted(AT))],
            details: [],
            texts: [storedText("celery"), storedText("mail")],
            etaSeconds: 2_000_000_001,
          },
        ],
      ]),
    );
  });

  it("to a task: each text once, also if another comes in between", () => {
    const events = ["app.one", "app.two", "app.one"].map((name, index) => taskReceived({ timestamp: index, name }));
    const [change] = collectChanges(events, PLAIN).values();
    expect(change?.texts).toEqual([storedText("app.one"), storedText("app.two")]);
  });

  const UNNAMED: TaskEvent = { type: "task-received", hostname: "w1@a", uuid: taskSent().uuid, ...AT };

  it("of an excluded attempt: no texts; of one without name and queue: none either", () => {
    const events = [taskSent({ ...AT, ...NAMED, excluded: true }), taskSent({ ...AT, name: "", queue: "" }), UNNAMED];
    const [change] = collectChanges(events, PLAIN).values();
    expect(change).toMatchObject({ texts: [], etaSeconds: 0 });
    expect(change?.facts).toHaveLength(3);
  });

  it("has the details of each fact, in the order of the facts, where a tag needs them", () => {
    const started = Array.from({ length: 40 }, (_, index) => taskStarted({ ...AT, hostname: `w${index % 30}@a` }));
    for (const options of [
      { keepWorker: true, keepException: false },
      { keepWorker: false, keepException: true },
    ]) {
      const [change] = collectChanges(started, options).values();
      const once = started.slice(0, 30);
      expect(change?.facts).toEqual(once.map((event) => factOf(event)));
      expect(change?.details).toEqual(once.map(({ hostname }) => (options.keepWorker ? `|${hostname}` : "")));
    }
  });

  it("has no details of a fact that comes again", () => {
    const started = taskStarted({ ...AT, hostname: "w1@a" });
    const [change] = collectChanges([started, started], DETAILED).values();
    expect(change).toMatchObject({ facts: [factOf(started)], details: ["|w1@a"] });
  });

  it("is apart for each task", () => {
    const changes = collectChanges(
      ["a", "b", "a"].map((uuid, index) => taskStarted({ uuid, timestamp: index })),
      PLAIN,
    );
    expect([...changes].map(([id, { facts }]) => [id, facts.length])).toEqual([
      ["a", 2],
      ["b", 1],
    ]);
  });
});

describe("an entry", () => {
  it("is read with its size and what it has forgotten", () => {
    const reply = ["nctod", "celery", "wfkx18", "a", "w", "b", "b1.fkx18", "", "odd"];
    const { texts, facts, size, forgottenUntil } = parseTaskEntry(reply);
    expect(texts).toEqual(new Map([["ctod", "celery"]]));
    expect(facts.started).toHaveLength(1);
    expect(size).toBe(4.5);
    expect(forgottenUntil).toEqual(
      new Map([
        ["fkx18", 10],
        ["", 11],
      ]),
    );
    expect(parseTaskEntry(["b1.fkx18", ""]).forgottenUntil).toEqual(new Map());
  });
});
