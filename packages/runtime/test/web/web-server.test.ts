import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { UnavailableError, createWebServer, listen, type HttpLimits } from "../../src/index.ts";

const LIMITS: HttpLimits = {
  headersTimeoutMs: 300,
  requestTimeoutMs: 600,
  idleTimeoutMs: 900,
  checkIntervalMs: 50,
  maxHeaderBytes: 4_096,
  maxBodyBytes: 1_024,
  maxConnections: 6,
  maxConnectionsPerAddress: 3,
};

let server: ReturnType<typeof createWebServer>;
let url: string;
const sockets: Socket[] = [];
let requests: number;
let finish: () => void;

beforeEach(async () => {
  server = createWebServer({ limits: LIMITS });
  server.get("/", ({ ip }) => ({ ip }));
  server.post("/", ({ body }) => ({ body }));
  requests = 0;
  const finished = new Promise<void>((resolve) => (finish = resolve));
  server.get("/slow", async () => {
    requests += 1;
    await finished;
    return {};
  });
  url = await listen(server, { host: "127.0.0.1", port: 0, settings: "TEST_PORT" });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server.close();
});

/** Opens a connection from this address with half a request. */
function hold(localAddress: string): { readonly socket: Socket; readonly connected: Promise<unknown> } {
  const socket = connect({ port: Number(new URL(url).port), host: "127.0.0.1", localAddress });
  sockets.push(socket);
  socket.on("error", () => {});
  socket.write("GET / HTTP/1.1\r\n");
  socket.resume();
  return { socket, connected: once(socket, "connect") };
}

/** The response to a request from this address. */
async function ask(localAddress: string, path = "/"): Promise<string> {
  const socket = connect({ port: Number(new URL(url).port), host: "127.0.0.1", localAddress });
  sockets.push(socket);
  let answer = "";
  socket.on("data", (data) => (answer += data.toString()));
  socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`);
  await once(socket, "close");
  return answer;
}

/** Everything received until the server closes the connection. */
function talk(...parts: readonly string[]): Promise<string> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  sockets.push(socket);
  return new Promise((resolve) => {
    let answer = "";
    socket.on("data", (data) => (answer += data.toString()));
    socket.on("error", () => {});
    socket.on("close", () => resolve(answer));
    for (const part of parts) socket.write(part);
  });
}

function post(contentType: string | undefined, body: string): Promise<Response> {
  return fetch(url, { method: "POST", body, headers: contentType === undefined ? {} : { "content-type": contentType } });
}

describe("a web server", () => {
  it("closes the connection of a client that is slow with its headers", async () => {
    expect(await talk("GET / HTTP/1.1\r\nhost: a\r\n")).toMatch(/^(HTTP\/1.1 408|$)/);
  });

  it("closes the connection of a client that is slow with its body", async () => {
    const head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    expect(await talk(head)).toMatch(/^(HTTP\/1.1 408|$)/);
  });

  it("closes the connection of a silent client", async () => {
    expect(await talk()).toMatch(/^(HTTP\/1.1 408|$)/);
  });

  it("rejects headers and bodies that are too large", async () => {
    expect(await talk(`GET / HTTP/1.1\r\nhost: a\r\nx: ${"a".repeat(5_000)}\r\n\r\n`)).toContain("HTTP/1.1 431");
    expect((await post("application/json", JSON.stringify("a".repeat(2_000)))).status).toBe(413);
  });

  it("accepts every connection beyond its limits, and drops the oldest idle one of the address with the most", async () => {
    const idle = Array.from({ length: 20 }, (_, index) => hold(`127.0.0.${2 + (index % 4)}`));
    await Promise.all(idle.map(({ connected }) => connected));
    for (const address of ["127.0.0.1", "127.0.0.2", "127.0.0.9"]) expect(await ask(address)).toContain("HTTP/1.1 200");
    await vi.waitFor(() => expect(idle.filter(({ socket }) => !socket.closed).length).toBeLessThanOrEqual(LIMITS.maxConnections), {
      timeout: 10_000,
    });
  });

  it("drops a connection with a request in progress only if there is no other", async () => {
    const answered = ask("127.0.0.1", "/slow");
    await vi.waitUntil(() => requests > 0);
    const idle = Array.from({ length: 10 }, () => hold("127.0.0.1"));
    await Promise.all(idle.map(({ connected }) => connected));
    finish();
    expect(await answered).toContain("HTTP/1.1 200");
  });

  it.each(["text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"])(
    "rejects %s, which a form on any page could send",
    async (contentType) => {
      expect((await post(contentType, "{}")).status).toBe(415);
    },
  );

  it("accepts JSON", async () => {
    expect(await (await post("application/json", '{"a":1}')).json()).toEqual({ body: { a: 1 } });
  });

  it("does not trust a client's claim about its address", async () => {
    const headers = { "x-forwarded-for": "203.0.113.9" };
    expect(await (await fetch(url, { headers })).json()).toEqual({ ip: "127.0.0.1" });
  });

  it("says what to do if its port is in use or its address does not belong to this machine", async () => {
    const port = Number(new URL(url).port);
    const again = listen(createWebServer(), { host: "127.0.0.1", port, settings: "TEST_PORT" });
    await expect(again).rejects.toThrow(UnavailableError);
    await expect(again).rejects.toThrow(`127.0.0.1:${port}: another program is listening there. Choose another TEST_PORT.`);
    const foreign = listen(createWebServer(), { host: "2001:db8::1", port: 0, settings: "TEST_HOST" });
    await expect(foreign).rejects.toThrow(/\[2001:db8::1\]:0: .*Choose another TEST_HOST/);
  });
});

it("a web server believes trusted proxies about the client's address", async () => {
  const behind = createWebServer({ trustedProxies: ["127.0.0.0/8"] });
  behind.get("/", ({ ip }) => ({ ip }));
  const answer = await behind.inject({ url: "/", headers: { "x-forwarded-for": "198.51.100.1, 203.0.113.9" } });
  expect(answer.json()).toEqual({ ip: "203.0.113.9" });
});
