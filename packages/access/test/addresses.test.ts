import { describe, expect, it } from "vitest";
import { isLoopback } from "../src/addresses.ts";

describe("loopback", () => {
  it.each(["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LOCALHOST"])("is %s", (host) => expect(isLoopback(host)).toBe(true));

  it.each(["0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com", ""])("is not %j", (host) =>
    expect(isLoopback(host)).toBe(false),
  );
});
