/** What differs between the releases of RabbitMQ. */
import { connect } from "amqplib";

const NEEDS_RIGHT_SINCE = "4.2.6";

/** Whether a user needs a right on a queue to count its messages. (In 4.2.6 and 4.3.0 only the right to configure it counts: tests that read fail there.) */
export async function countingNeedsRight(url: string): Promise<boolean> {
  const model = await connect(url);
  const { version } = model.connection.serverProperties;
  await model.close();
  return version.localeCompare(NEEDS_RIGHT_SINCE, "en", { numeric: true }) >= 0;
}
