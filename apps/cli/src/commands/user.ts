/** `user`: makes an entry for the users or the tokens of the HTTP API. */
import { loadConfig } from "@celery-metrics-exporter/runtime";
import { randomBytes } from "node:crypto";
import { USER_ROLES, createToken, hashPassword, web } from "web";
import { z } from "zod";
import { UsageError, type Command } from "../command.ts";
import { groupSettings } from "../settings.ts";

const Config = z.object({
  WEB_PASSWORD: web.Config.shape.WEB_PASSWORD.describe("Password of the user. Without it, a new one is made and shown."),
});

const DAYS = 90;
const DAY_MS = 86_400_000;

export const user: Command = {
  name: "user",
  summary: "Make an entry for WEB_USERS or WEB_TOKENS: a user or a token of the HTTP API.",
  description:
    "Prints an entry with the hash of a password for WEB_USERS or, with --token, of a new API token for WEB_TOKENS. " +
    "A new password or token is shown once and stored nowhere. Changes nothing: put the entry into the setting of the role web, and restart it.",
  argument: "name",
  options: [
    { name: "role", value: USER_ROLES.join("|"), description: "What the user may do. Default: reader." },
    { name: "token", description: "Make an API token instead of a password." },
    { name: "days", value: "number", description: `How long the token works. Default: ${DAYS}.` },
  ],
  settings: groupSettings([{ name: "user", Config }]),
  async run({ argument: name, options, env, terminal }) {
    if (name === undefined || !/^[^\s:,]+$/.test(name)) throw new UsageError("A name without blanks, commas and colons is required.");
    const role = options.get("role") ?? "reader";
    if (!USER_ROLES.some((known) => known === role)) throw new UsageError(`The role must be one of ${USER_ROLES.join(", ")}.`);
    if (options.has("token")) {
      const days = Number(options.get("days") ?? DAYS);
      if (!Number.isInteger(days) || days < 1 || days > 3_650) throw new UsageError("The days must be a whole number from 1 to 3650.");
      const expiry = new Date(Date.now() + days * DAY_MS).toISOString().slice(0, 10);
      const { token, tokenHash } = createToken();
      return terminal.write(`Token, until ${expiry}: ${token}\n\nFor WEB_TOKENS:\n${name}:${role}:${expiry}:${tokenHash}\n`);
    }
    const { WEB_PASSWORD: given } = loadConfig(Config, env);
    const password = given ?? randomBytes(18).toString("base64url");
    const shown = given === undefined ? `Password: ${password}\n\n` : "";
    terminal.write(`${shown}For WEB_USERS:\n${name}:${role}:${await hashPassword(password)}\n`);
  },
};
