/** `replay`: puts dead letters back into their exporter queues. */
import {
  DeadLetterReplay,
  DeadLetters,
  EXPORTERS,
  Fanout,
  FilterConfig,
  RECEIVER,
  exportersInUse,
  openFilter,
  type ReplayRedaction,
  type Selection,
} from "@celery-metrics-exporter/pipeline";
import {
  BaseConfig,
  Health,
  Lifecycle,
  Metrics,
  UnavailableError,
  createLogger,
  describeConfig,
  loadConfig,
  openRedis,
  type Logger,
} from "@celery-metrics-exporter/runtime";
import { RedactionConfig, receiver, redactionOf, withRedactionChecked } from "receiver";
import type { z } from "zod";
import { unknown } from "../arguments.ts";
import { UsageError, type Command } from "../command.ts";
import { explain, isSet } from "../defaults/decision.ts";
import { withRedis } from "../defaults/redis.ts";
import { DECIDED_DEFAULTS, withDecidedDefaults } from "../defaults/shown-defaults.ts";
import { ReplayReport } from "../report/replay-report.ts";
import { groupSettings } from "../settings.ts";

const NotOfACommand = { HEALTH_HOST: true, HEALTH_PORT: true, SHUTDOWN_TIMEOUT_SECONDS: true, LOG_LEVEL: true, LOG_FORMAT: true } as const;
const Config = withRedactionChecked(
  BaseConfig.omit(NotOfACommand).extend({
    EXPORTERS: receiver.Config.shape.EXPORTERS,
    ...FilterConfig.shape,
    ...RedactionConfig.shape,
  }),
);
type Config = z.output<typeof Config>;

/** The settings from which `start` may derive `REDIS_URL`. */
const BROKER_SETTINGS = describeConfig(receiver.Config)
  .filter(({ name }) => /^CELERY_(BROKER_URL|SENTINEL_)/.test(name))
  .map((setting) => ({ ...setting, required: false }));

const SOURCES = [RECEIVER, ...EXPORTERS.map(({ name }) => name)];

export const replay: Command = {
  name: "replay",
  summary: "Put dead letters back into the exporter queues, after the cause is fixed.",
  description:
    "Replays the letters in the dead-letter queue, the oldest first. Events go back to the queue of the exporter that refused them. Messages that could not be decoded " +
    "are decoded again and go to every exporter. A letter is removed once it is replayed. If it fails again, it comes back as a new letter. " +
    "Letters that cannot be replayed, for example because only a part was kept, stay; --discard removes them. " +
    "It may run while everything else runs, and you may stop it at any time. " +
    "Use the same settings as the receiver (REDIS_URL or CELERY_BROKER_URL, QUEUE_PREFIX, EXPORTERS, FILTER_…, REDACT_…). " +
    "Without REDIS_URL it looks for the exporter queues in the broker's Redis, like `start`.",
  options: [
    { name: "source", value: "name", description: `Only letters from this source: ${SOURCES.join(", ")}.` },
    {
      name: "reason",
      value: "word",
      description: "Only letters with this reason, such as refused or body; --dry-run lists the reasons.",
    },
    { name: "limit", value: "n", description: "At most n letters." },
    { name: "discard", description: "Also remove the letters that cannot be replayed." },
    {
      name: "discard-all",
      description: "Remove every letter that matches --source and --reason, and replay none. Requires at least one of the two.",
    },
    { name: "dry-run", description: "Change nothing: count the letters by source and reason, and say what would happen to them." },
  ],
  settings: [
    ...withDecidedDefaults(groupSettings([{ name: "replay", Config }]), {
      REDIS_URL: DECIDED_DEFAULTS["REDIS_URL"] ?? "",
      EXPORTERS: "the exporters whose queues exist",
    }),
    { title: "the broker, if REDIS_URL is not set", settings: BROKER_SETTINGS },
  ],
  async run({ options, env, terminal }) {
    const selection = readSelection(options);
    const { env: decided, note } = withRedis(env);
    const config = loadConfig(Config, decided);
    const isChosen = isSet("EXPORTERS", env);
    // The error that ends the run says what went wrong.
    const logger = createLogger("replay", "silent");
    const lifecycle = new Lifecycle(logger);
    const report = new ReplayReport(terminal, selection.dryRun === true);
    try {
      const letters = await openReplay(config, { isChosen, lifecycle, logger });
      for await (const done of letters.run(selection)) report.add(done);
      report.finish();
    } catch (thrown) {
      report.interrupt();
      if (note === undefined || !(thrown instanceof UnavailableError)) throw thrown;
      throw new UnavailableError(explain(thrown.message, [note]), { cause: thrown });
    } finally {
      await lifecycle.close();
    }
  },
};

function readSelection(options: ReadonlyMap<string, string>): Selection {
  const source = options.get("source");
  if (source !== undefined && !SOURCES.includes(source)) throw new UsageError(unknown("source", source, SOURCES));
  const limit = options.get("limit");
  if (limit !== undefined && !/^[1-9]\d*$/.test(limit)) {
    throw new UsageError(`--limit requires a whole number above 0, not ${JSON.stringify(limit)}.`);
  }
  return {
    source,
    reason: options.get("reason"),
    limit: limit === undefined ? undefined : Number(limit),
    discard: readDiscard(options),
    dryRun: options.has("dry-run"),
  };
}

function readDiscard(options: ReadonlyMap<string, string>): Selection["discard"] {
  if (!options.has("discard-all")) return options.has("discard") ? "unreplayable" : undefined;
  if (!options.has("source") && !options.has("reason")) {
    throw new UsageError("--discard-all requires --source or --reason. To remove only letters that cannot be replayed, use --discard.");
  }
  return "all";
}

/** The receiver's way to the exporter queues, and the dead-letter queue. */
async function openReplay(
  config: Config,
  { isChosen, lifecycle, logger }: { readonly isChosen: boolean; readonly lifecycle: Lifecycle; readonly logger: Logger },
): Promise<DeadLetterReplay> {
  const redis = await openRedis({ config, logger, lifecycle, health: new Health() }, { use: "producer", name: "replay" });
  const prefix = config.QUEUE_PREFIX;
  const metrics = new Metrics();
  const inUse = isChosen ? [] : await exportersInUse(redis, prefix);
  // If there is no exporter queue yet, the replayed letters create the first ones.
  const names = inUse.length === 0 ? config.EXPORTERS : inUse;
  const exporters = EXPORTERS.filter(({ name }) => names.includes(name));
  const fanout = new Fanout({ redis, prefix, exporters, whenFull: "hold", highWaterEvents: Number.MAX_SAFE_INTEGER, logger, metrics });
  const deadLetters = new DeadLetters({ redis, prefix, logger, metrics, source: undefined });
  const filter = openFilter(config, { redis, prefix, owner: RECEIVER });
  const redaction = replayRedaction(config);
  const letters = new DeadLetterReplay({ redis, prefix, logger, exporters: names, filter, fanout, deadLetters, redaction });
  for (const opened of [fanout, deadLetters, letters]) lifecycle.defer("queues", () => opened.close());
  return letters;
}

function replayRedaction(config: Config): ReplayRedaction | undefined {
  const ofSent = redactionOf(config, "sent");
  const ofStored = redactionOf(config, "stored");
  return ofSent && ofStored && { ofSent, ofStored };
}
