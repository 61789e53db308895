import { startRabbitmq } from "../src/index.ts";
import { describePrivate, openAmqp } from "./private-server.ts";

// Only fault tests restart a RabbitMQ. It starts twice, which takes 16 s of CPU time.
describePrivate("RabbitMQ", () => startRabbitmq(), openAmqp);
