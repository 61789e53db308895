/** Records which commands each user of a Redis needs: those that it sends, and all commands in the scripts that it runs. */
import { createHash } from "node:crypto";
import { Redis } from "ioredis";

export interface CommandRecord {
  /** In lower case, by user. Includes the commands of a script that this run did not execute. */
  commandsOf(user: string): Promise<ReadonlySet<string>>;
  stop(): void;
}

interface Line {
  readonly source: string;
  readonly words: readonly string[];
  /** Looked up soon, because another client may get the same address later. */
  user?: string;
}

const SCRIPT_COMMANDS = new Set(["eval", "evalsha", "eval_ro", "evalsha_ro"]);
/** The commands with which a client starts and ends a connection: allowed for every user, or refused without harm. */
const HANDSHAKE = new Set(["hello", "auth", "quit", "client", "info", "config"]);
const CLIENTS_MS = 100;

/** Starts recording. The URL must belong to a user with all rights. */
export async function recordCommands(url: string): Promise<CommandRecord> {
  const redis = new Redis(url);
  const known = new Set(((await redis.call("COMMAND", "LIST")) as string[]).map((name) => name.toLowerCase()));
  const monitor = await redis.monitor();
  const lines: Line[] = [];
  const users = new Map<string, string>();
  let unnoted: Line[] = [];
  const noteUsers = async (): Promise<void> => {
    const present = new Set<string>();
    for (const client of String(await redis.client("LIST")).split("\n")) {
      const [, address, user] = / addr=(\S+) .* user=(\S+)/.exec(client) ?? [];
      if (address === undefined || user === undefined) continue;
      users.set(address, user);
      present.add(address);
    }
    for (const line of unnoted) {
      const user = users.get(line.source);
      if (user !== undefined && present.has(line.source)) line.user = user;
    }
    unnoted = unnoted.filter(({ user }) => user === undefined);
  };
  monitor.on("monitor", (_time: string, words: string[], source: string) => {
    if (source === "lua") return;
    const line: Line = { source, words };
    lines.push(line);
    unnoted.push(line);
  });
  const timer = setInterval(() => void noteUsers().catch(() => {}), CLIENTS_MS);
  return {
    commandsOf: async (user) => {
      await noteUsers();
      const scripts = scriptsOf(lines);
      const commands = new Set<string>();
      // The last commands of a client that has disconnected can only be its own.
      for (const { source, user: sender = users.get(source), words } of lines) {
        const [name = "", text = ""] = [words[0]?.toLowerCase(), words[1]];
        if (sender !== user || HANDSHAKE.has(name)) continue;
        commands.add(name === "script" ? `script|${text.toLowerCase()}` : name);
        if (!SCRIPT_COMMANDS.has(name)) continue;
        const script = name.startsWith("evalsha") ? scripts.get(text) : text;
        if (script === undefined) throw new Error(`a script that was loaded before the record began: ${text}`);
        for (const command of commandsIn(script, known)) commands.add(command);
      }
      return commands;
    },
    stop: () => {
      clearInterval(timer);
      monitor.disconnect();
      redis.disconnect();
    },
  };
}

/** Every script is sent as a whole at least once, when Redis does not know it yet. */
function scriptsOf(lines: readonly Line[]): ReadonlyMap<string, string> {
  const texts = lines.flatMap(({ words: [name, second, third] }) => {
    if (name?.toLowerCase() === "eval") return [unescaped(second ?? "")];
    return name?.toLowerCase() === "script" ? [unescaped(third ?? "")] : [];
  });
  return new Map(texts.map((text) => [createHash("sha1").update(text).digest("hex"), text]));
}

/** MONITOR escapes unprintable characters as in C; ioredis has undone that only for quotes. */
function unescaped(text: string): string {
  const characters: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };
  return text.replace(/\\([nrt\\])/g, (_, letter: string) => characters[letter] ?? letter);
}

/** The command names among a script's texts: `redis.call("HSET", …)`, and those that BullMQ passes to its own functions. */
function commandsIn(script: string, known: ReadonlySet<string>): string[] {
  const called = [...script.matchAll(/call\(\s*["']([a-z]+)["']/gi)].map(([, name = ""]) => name.toLowerCase());
  const passed = [...script.matchAll(/["']([A-Z]{3,})["']/g)].map(([, name = ""]) => name.toLowerCase());
  return [...called, ...passed].filter((name) => known.has(name));
}
