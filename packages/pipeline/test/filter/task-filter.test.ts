import { loadConfig } from "@celery-metrics-exporter/runtime";
import { customEvent, taskReceived, taskSent, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { isDescription } from "../../src/filter/task-filter.ts";
import { EventFilter, FilterConfig, eventTypeWarnings } from "../../src/index.ts";

function filterOf(env: Record<string, string>): EventFilter {
  return new EventFilter(loadConfig(FilterConfig, env));
}

describe("the filter by event type", () => {
  it.each([
    [{}, "task-sent", true],
    [{ FILTER_EVENT_TYPES_INCLUDE: "task-*" }, "task-sent", true],
    [{ FILTER_EVENT_TYPES_INCLUDE: "task-*" }, "worker-online", false],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-received, task-started" }, "task-started", false],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-received, task-started" }, "task-sent", true],
    [{ FILTER_EVENT_TYPES_INCLUDE: "task-*", FILTER_EVENT_TYPES_EXCLUDE: "task-s*" }, "task-started", false],
    [{ FILTER_EVENT_TYPES_INCLUDE: "task-*", FILTER_EVENT_TYPES_EXCLUDE: "task-s*" }, "task-failed", true],
  ])("%o: takes %s: %s", (env, type, taken) => {
    expect(filterOf(env).takesType(type)).toBe(taken);
  });
});

describe("a filter by event type that cannot be intended", () => {
  it.each([
    ["INCLUDE", "task_succeeded", /did you mean task-succeeded\?/],
    ["EXCLUDE", "task_succeeded", /did you mean task-succeeded\?/],
    ["INCLUDE", "task-sent,Task-Failed", /Task-Failed .*did you mean task-failed\?/],
    ["INCLUDE", "constructor", /constructor includes no event type of Celery/],
    ["EXCLUDE", "succeeded", /did you mean task-succeeded\?/],
    ["EXCLUDE", "SUCCESS", /did you mean task-succeeded\?/],
    ["EXCLUDE", "task_*", /did you mean task-\*\?/],
    ["EXCLUDE", "heartbeat", /did you mean worker-heartbeat\?/],
    ["INCLUDE", "task-suceeded", /includes no event type.*did you mean task-succeeded\?/],
    ["INCLUDE", "my-event", /includes no event type.*Known: task-sent/],
    ["INCLUDE", "task-sent task-failed", /separate event types with commas/],
    ["EXCLUDE", "*", /\* drops every event of a task/],
    ["EXCLUDE", "worker-*,task-*", /drops every event of a task/],
    ["EXCLUDE", "task-*,worker-*", /: task-\*,worker-\* drops every event of a task: nothing would be exported/],
    [
      "INCLUDE",
      "my-event,other",
      /: my-event,other includes no event type of Celery; did you mean [a-z]+-[a-z]+\? Known: task-sent, task-received, /,
    ],
    ["INCLUDE", "task-sent task-failed", /: "task-sent task-failed" contains a blank/],
  ])("is refused: %s %s", (which, value, message) => {
    expect(() => filterOf({ [`FILTER_EVENT_TYPES_${which}`]: value })).toThrow(message);
  });

  it.each([
    ["INCLUDE", "task-*"],
    ["INCLUDE", "*-[sf]*"],
    ["INCLUDE", "task-sent,my_event"],
    ["EXCLUDE", "my_event"],
    ["EXCLUDE", "task-progress"],
    ["INCLUDE", ""],
  ])("is not %s %s", (which, value) => {
    expect(() => filterOf({ [`FILTER_EVENT_TYPES_${which}`]: value })).not.toThrow();
  });
});

describe("what exporters do not know because of filters by event type", () => {
  it.each([
    [{}, []],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-received,worker-*" }, []],
    [{ FILTER_EVENT_TYPES_INCLUDE: "worker-*" }, []],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-succeeded,task-started" }, [/task-started, .*waiting times/]],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-failed,task-started" }, [/task-started, .*waiting times/]],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-succeeded,task-failed,task-started" }, []],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-sent" }, [/task-sent, .*queues/]],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-started" }, [/task-started, .*waiting times/]],
    [
      { FILTER_EVENT_TYPES_INCLUDE: "task-succeeded,task-failed" },
      [/task-sent and task-received, .*names/, /task-sent, .*queues/, /task-started, .*waiting/],
    ],
  ])("%o", (env, warnings) => {
    expect(eventTypeWarnings(FilterConfig.parse(env))).toEqual(warnings.map((warning) => expect.stringMatching(warning)));
  });
});

describe("the filter by name", () => {
  it.each([
    ["shop.cart.total", "shop.cart.total", true],
    ["shop.*", "shop.cart.total", true],
    ["shop.*.total", "shop.cart.total", true],
    ["*", "shop/cart", true],
    ["shop/*", "shop/cart/total", true],
    ["*", ".hidden", true],
    ["shop.?art", "shop.cart", true],
    ["shop.[cm]art", "shop.mart", true],
    ["shop", "shop.cart", false],
    ["Shop.*", "shop.cart", false],
    ["!shop.cart", "shop.cart", false],
    ["!shop.cart", "other", false],
    ["shop.cart+", "shop.cart+", true],
    ["shop.*", "été.shop", false],
    ["ét?.shop", "été.shop", true],
  ])("%s excludes %s: %s", (glob, name, excluded) => {
    expect(filterOf({ FILTER_TASK_NAMES_EXCLUDE: glob }).verdictOn(taskReceived({ name }))).toBe(excluded ? "excluded" : "included");
  });

  it("includes only what matches, less what is excluded", () => {
    const filter = filterOf({ FILTER_TASK_NAMES_INCLUDE: "shop.*,mail.*", FILTER_TASK_NAMES_EXCLUDE: "shop.noisy.*" });
    const excludes = (name: string): boolean => filter.verdictOn(taskReceived({ name })) === "excluded";
    expect(["shop.cart", "mail.send", "shop.noisy.tick", "other"].map(excludes)).toEqual([false, false, true, true]);
  });

  it("excludes nothing by an event that does not carry the name", () => {
    const filter = filterOf({ FILTER_TASK_NAMES_INCLUDE: "nothing" });
    expect(filter.verdictOn(taskStarted())).toBeUndefined();
    expect(filter.verdictOn(customEvent())).toBeUndefined();
  });
});

describe("the filter by queue", () => {
  it("knows the queue by `task-sent` only", () => {
    const filter = filterOf({ FILTER_QUEUES_EXCLUDE: "celery" });
    expect(filter.verdictOn(taskSent({ queue: "celery" }))).toBe("excluded");
    expect(filter.verdictOn(taskSent({ queue: "mail" }))).toBe("included");
    expect(filter.verdictOn(taskReceived())).toBe("included");
  });

  it("judges by whichever of name and queue an event has", () => {
    const { name: _name, ...nameless } = taskSent({ queue: "celery" });
    const { queue: _queue, ...neither } = nameless;
    const filter = filterOf({ FILTER_QUEUES_EXCLUDE: "celery", FILTER_TASK_NAMES_INCLUDE: "shop.*" });
    expect(filter.verdictOn(nameless)).toBe("excluded");
    expect(filter.verdictOn({ ...nameless, queue: "mail" })).toBe("included");
    expect(filter.verdictOn(neither)).toBeUndefined();
    expect([taskSent(), taskReceived(), taskStarted(), customEvent()].map(isDescription)).toEqual([true, true, false, false]);
  });

  it("excludes a task whose name is wanted but whose queue is not", () => {
    const filter = filterOf({ FILTER_TASK_NAMES_INCLUDE: "shop.*", FILTER_QUEUES_INCLUDE: "mail" });
    expect(filter.verdictOn(taskSent({ name: "shop.cart", queue: "celery" }))).toBe("excluded");
  });
});

describe("the need to remember tasks", () => {
  it.each([
    [{}, false],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-sent" }, false],
    [{ FILTER_TASK_NAMES_INCLUDE: "a" }, true],
    [{ FILTER_TASK_NAMES_EXCLUDE: "a" }, true],
    [{ FILTER_QUEUES_INCLUDE: "a" }, true],
    [{ FILTER_QUEUES_EXCLUDE: "a" }, true],
  ])("%o: %s", (env, needed) => {
    expect(filterOf(env).filtersTasks).toBe(needed);
  });

  it.each([
    [{}, false, false],
    [{ FILTER_EVENT_TYPES_INCLUDE: "task-*" }, true, false],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-sent" }, true, false],
    [{ FILTER_QUEUES_INCLUDE: "a" }, false, true],
    [{ FILTER_QUEUES_EXCLUDE: "a" }, false, true],
    [{ FILTER_TASK_NAMES_EXCLUDE: "a" }, false, false],
  ])("%o: filters by type %s, by queue %s", (env, types, queues) => {
    const { filtersTypes, filtersQueues } = filterOf(env);
    expect([filtersTypes, filtersQueues]).toEqual([types, queues]);
  });
});
