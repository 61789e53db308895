/** Answers to requests that cannot be read: a problem document (RFC 9457), as for all others. */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";

/** By the error's code: the status, and what is wrong. */
const REASONS: Readonly<Record<string, readonly [status: number, detail: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, "The request did not come in time."],
  HPE_HEADER_OVERFLOW: [431, "The headers of the request are too long."],
  HPE_INVALID_URL: [400, "The address contains a character that must be percent-encoded, such as %C3%BC for ü."],
};

/** For Fastify's `clientErrorHandler`. */
export function refuseUnreadable(error: Error & { readonly code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  const [status, detail] = REASONS[error.code ?? ""] ?? [400, "This is not a request in HTTP/1.1."];
  const title = STATUS_CODES[status] ?? "Error";
  const body = Buffer.from(JSON.stringify({ type: "about:blank", title, status, detail }));
  if (socket.writable) {
    socket.write(
      `HTTP/1.1 ${status} ${title}\r\ncontent-type: application/problem+json; charset=utf-8\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`,
    );
    socket.write(body);
  }
  socket.destroySoon();
}
