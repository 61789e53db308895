/** The dashboard's settings. */
import { isLoopback, isNetwork } from "@celery-metrics-exporter/access";
import { BaseConfig, flag, integer, list, secret } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

const Settings = BaseConfig.extend({
  DASHBOARD_HOST: z
    .string()
    .default("127.0.0.1")
    .describe("Address on which the dashboard listens. An address other than loopback requires credentials."),
  DASHBOARD_PORT: integer(3000, 0, 65535).describe("Port of the dashboard; 0 uses a free port and logs it."),
  DASHBOARD_USERNAME: z
    .string()
    .regex(/^[^:]*$/, "must not contain a colon, which ends the user name in a login")
    .optional()
    .describe("User name of the dashboard's login. Requires `DASHBOARD_PASSWORD`."),
  DASHBOARD_PASSWORD: secret(z.string().optional()).describe("Password of the dashboard's login. Requires `DASHBOARD_USERNAME`."),
  DASHBOARD_READ_ONLY: flag(true).describe("Only show the exporter queues. `false` allows users to retry, promote, pause and remove jobs."),
  DASHBOARD_SHOW_TASK_DATA: flag(false).describe(
    "Show the data of tasks: arguments, results, exceptions, tracebacks, messages that could not be decoded.",
  ),
  DASHBOARD_ALLOWED_HOSTS: list().describe(
    "If no credentials are set: host names, in addition to `localhost`, for which the dashboard answers, such as the name of a proxy that handles the login.",
  ),
  DASHBOARD_TRUSTED_PROXIES: list()
    .refine((networks) => networks.every(isNetwork), "must be addresses or networks, such as 10.0.0.5 or 10.0.0.0/8")
    .describe(
      "Addresses or networks of reverse proxies. For requests from them, the limit of wrong logins applies to the client address in `X-Forwarded-For` instead of the proxy's address.",
    ),
});

const Credentials = Settings.pick({ DASHBOARD_HOST: true, DASHBOARD_USERNAME: true, DASHBOARD_PASSWORD: true });

export const Config = Settings.refine((settings) => credentialsProblem(settings) === undefined, {
  error: ({ input }) => credentialsProblem(input),
  // Runs even if another setting is wrong, so that every problem is reported at once.
  when: () => true,
});

function credentialsProblem(settings: unknown): string | undefined {
  const { data: config } = Credentials.safeParse(settings);
  if (config === undefined) return undefined;
  const { DASHBOARD_HOST: host, DASHBOARD_USERNAME: username, DASHBOARD_PASSWORD: password } = config;
  if (username === undefined && password !== undefined) return "DASHBOARD_USERNAME: is required, because DASHBOARD_PASSWORD is set.";
  if (username !== undefined && password === undefined) return "DASHBOARD_PASSWORD: is required, because DASHBOARD_USERNAME is set.";
  if (password !== undefined || isLoopback(host)) return undefined;
  return `DASHBOARD_HOST: ${JSON.stringify(host)} is not a loopback address, so DASHBOARD_USERNAME and DASHBOARD_PASSWORD are required.`;
}

export type Config = z.output<typeof Config>;
