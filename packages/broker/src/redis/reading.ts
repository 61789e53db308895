/** Reads a socket in few turns: while little arrives, several messages at once, because waking up for each costs more than the message itself. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";

/** Far less than a batch waits. What arrives meanwhile waits in the socket, and in Redis: it keeps 8 MB for a subscriber for a minute, and 32 MB at most. */
const PAUSE_MS = 50;
/** Node.js reads no more at once. As long as it reads so much, more is waiting. */
const FULL_READ_BYTES = 65_536;
const FULL_TLS_READ_BYTES = 16_384;

/** Node.js' internal part of a socket. The public `pause()` still reads, and wakes up for, the next 16 KiB. */
interface Handle {
  readStart(): void;
  readStop(): void;
}

/** From the next data on, pauses after each read that takes all that is there. */
export function readInTurns(socket: Socket): void {
  const fullBytes = socket instanceof TLSSocket ? FULL_TLS_READ_BYTES : FULL_READ_BYTES;
  let isPausing = false;
  const goOn = (): void => {
    isPausing = false;
    handleOf(socket)?.readStart();
  };
  socket.on("data", ({ length }: Buffer) => {
    // TLS hands over the rest of what it has decrypted.
    if (isPausing || length >= fullBytes) return;
    isPausing = true;
    handleOf(socket)?.readStop();
    setTimeout(goOn, PAUSE_MS);
  });
}

/** Undefined when the socket is closed. */
function handleOf(socket: Socket): Handle | undefined {
  return (Reflect.get(socket, "_handle") as Handle | null) ?? undefined;
}
