import { describeEventSource } from "../src/testing/index.ts";
import { RabbitmqHarness } from "./rabbitmq-harness.ts";

describeEventSource("RabbitMQ", () => RabbitmqHarness.create());
