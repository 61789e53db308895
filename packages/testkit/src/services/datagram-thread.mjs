/** A UDP socket in its own thread: like an agent's socket, it is read even while the test's event loop is busy. */
import { createSocket } from "node:dgram";
import { EventEmitter, once } from "node:events";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

const RECEIVE_BUFFER_BYTES = 4 * 2 ** 20;

/** Emits `message` and `close`, like a socket of `node:dgram`. */
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
    // As large as the system allows, because a thread may have to wait for a core too.
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
    parent.postMessage(socket.address().port, []);
  });
  parent.once("message", () => {
    socket.close();
    parent.close();
  });
}
