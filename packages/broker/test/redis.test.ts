import { describeEventSource } from "../src/testing/index.ts";
import { RedisHarness } from "./redis-harness.ts";

describeEventSource("Redis pub/sub", () => RedisHarness.create());
