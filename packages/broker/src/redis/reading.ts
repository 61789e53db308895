/** Reads a socket in few turns: while little arrives, several messages at once, because waking up for each costs more than the message itself. */
import type { Socket } from "node:net";

/** Far less than a batch waits. What arrives meanwhile waits in the socket, and in Redis: it keeps 8 MB for a subscriber for a minute, and 32 MB at most. */
const PAUSE_MS = 100;
/**
 * A turn that has read so much may have left more. A read may be small although more is waiting: each record of TLS, what fits into the buffer of a Unix
 * socket, and what fits into a small receive window of TCP. So all reads of a turn count together, and the limit is far below what one turn can read.
 */
const MANY_BYTES = 16_384;

/** Node.js' internal part of a socket. The public `pause()` still reads, and wakes up for, the next 16 KiB. */
interface Handle {
  readStart(): void;
  readStop(): void;
}

/** From the next data on, pauses after each turn of the event loop that takes all that is there. */
export function readInTurns(socket: Socket): void {
  let bytes = 0;
  const goOn = (): void => handleOf(socket)?.readStart();
  const endTurn = (): void => {
    const isAll = bytes < MANY_BYTES;
    bytes = 0;
    if (!isAll) return;
    handleOf(socket)?.readStop();
    setTimeout(goOn, PAUSE_MS);
  };
  socket.on("data", ({ length }: Buffer) => {
    if (bytes === 0) setImmediate(endTurn);
    bytes += length;
  });
}

/** Undefined when the socket is closed. */
function handleOf(socket: Socket): Handle | undefined {
  return (Reflect.get(socket, "_handle") as Handle | null) ?? undefined;
}
