/** A UDP socket in a thread of its own: it is read while the test's own event loop is busy, as an agent's socket would be. */
import { createSocket } from "node:dgram";
import { EventEmitter, once } from "node:events";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

const RECEIVE_BUFFER_BYTES = 4 * 2 ** 20;

/** Tells of `message` and `close` as a socket of `node:dgram` does. */
export class DatagramThread extends EventEmitter {
  /** @type {Worker} */
  #worker;
  #port = 0;

  /** @param {Worker} worker */
  constructor(worker) {
    super();
    this.#worker = worker;
    worker.on("message", (/** @type {Uint8Array} */ datagram) => this.emit("message", Buffer.from(datagram)));
    worker.on("error", (error) => this.emit("error", error));
    worker.once("exit", () => this.emit("close"));
  }

  /**
   * @param {number} port of 127.0.0.1.
   * @returns {Promise<DatagramThread>}
   */
  static async open(port) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { port } });
    const [bound] = /** @type {[number]} */ (await once(worker, "message"));
    const thread = new DatagramThread(worker);
    thread.#port = bound;
    return thread;
  }

  address() {
    return { port: this.#port };
  }

  close() {
    this.#worker.postMessage("close", []);
  }
}

if (!isMainThread && parentPort !== null && typeof workerData?.port === "number") {
  const parent = parentPort;
  const socket = createSocket("udp4");
  socket.on("message", (datagram) => parent.postMessage(datagram, []));
  socket.bind(workerData.port, "127.0.0.1", () => {
    // As far as the system allows: a thread too may wait for a core.
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
    parent.postMessage(socket.address().port, []);
  });
  parent.once("message", () => {
    socket.close();
    parent.close();
  });
}
