import { describe, expect, it } from "vitest";
import { isAmong, isLoopback } from "../src/addresses.ts";

describe("loopback", () => {
  it.each(["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LOCALHOST"])("is %s", (host) => expect(isLoopback(host)).toBe(true));

  it.each(["0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com", ""])("is not %j", (host) =>
    expect(isLoopback(host)).toBe(false),
  );
});

describe("among networks", () => {
  const isOurs = isAmong(["10.1.2.3", "192.168.0.0/16", "fd00::/8", "2001:db8::1"]);

  it.each(["10.1.2.3", "::ffff:10.1.2.3", "192.168.200.1", "::ffff:192.168.0.9", "fd12::1", "2001:db8::1"])("is %s", (address) =>
    expect(isOurs(address)).toBe(true),
  );

  it.each(["10.1.2.4", "::ffff:10.1.2.4", "192.169.0.1", "fe80::1", "2001:db8::2", "::1", "", "localhost", "10.1.2.3, 1.1.1.1"])(
    "is not %j",
    (address) => expect(isOurs(address)).toBe(false),
  );

  it("is nobody without networks", () => expect(isAmong([])("127.0.0.1")).toBe(false));
});
