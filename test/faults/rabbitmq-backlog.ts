/** Counts the messages in a RabbitMQ queue that no consumer has taken. */
import amqp from "amqplib";

export async function messagesIn(brokerUrl: string, queue = "celery-metrics-exporter"): Promise<number> {
  const connection = await amqp.connect(brokerUrl);
  try {
    const channel = await connection.createChannel();
    return (await channel.checkQueue(queue)).messageCount;
  } finally {
    await connection.close();
  }
}
