/**
 * Every exporter and role is wherever it has to be written by hand: nothing derives these places. `CONTRIBUTING.md`, "Add an exporter",
 * lists them in the same order.
 */
import { EXPORTERS } from "@celery-metrics-exporter/pipeline";
import { ALL_ROLES, exporters } from "cli";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { ROOT, readText, workspacePackages } from "./workspace.ts";

/** Something that a file must contain. */
interface Need {
  readonly file: string;
  /** Completes "… lacks". */
  readonly what: string;
  readonly isThere: boolean;
}

const folders = readdirSync(join(ROOT, "apps")).flatMap((name) => /^(.+)-processor$/.exec(name)?.[1] ?? []);
const registered = EXPORTERS.map(({ name }) => name);
/** Half an exporter too, so that the tests say what it lacks. */
const exporterNames = [...new Set([...folders, ...registered, ...exporters.keys()])];
const roleNames = [...new Set([...ALL_ROLES.map(({ name }) => name), ...exporterNames.map(roleOf)])];

function roleOf(exporter: string): string {
  return `${exporter}-processor`;
}

/** The text of a file, empty if there is none. */
function textOf(file: string): string {
  return existsSync(join(ROOT, file)) ? readText(file) : "";
}

function needsText(file: string, text: string, what = text): Need {
  return { file, what, isThere: textOf(file).includes(text) };
}

/** The code of an exporter, and what connects it with the rest. */
function codeOf(name: string): Need[] {
  const role = roleOf(name);
  const app = `apps/${role}`;
  const { dependencies = [] } = workspacePackages().find(({ folder }) => folder === "apps/cli") ?? {};
  const definition = exporters.get(name);
  return [
    ...["package.json", "tsconfig.json", "turbo.json", "src/index.ts", "src/main.ts", "README.md"].map((path) => ({
      file: `${app}/${path}`,
      what: "the whole file",
      isThere: existsSync(join(ROOT, app, path)),
    })),
    {
      file: `${app}/test/contract.test.ts`,
      what: "the contract suite",
      isThere: new RegExp(`describeExporter\\(\\s*"${name}"`).test(textOf(`${app}/test/contract.test.ts`)),
    },
    {
      file: "packages/pipeline/src/contract/exporters.ts",
      what: `an entry with the name "${name}"`,
      isThere: registered.filter((other) => other === name).length === 1,
    },
    { file: "apps/cli/src/exporters.ts", what: `the definition of "${name}"`, isThere: definition !== undefined },
    { file: "apps/cli/package.json", what: `"${role}" among its dependencies`, isThere: dependencies.includes(role) },
    needsText("apps/cli/tsconfig.json", `"../${role}"`, `a reference to "../${role}"`),
    ...Object.keys(definition?.Config.shape ?? {}).map((setting) =>
      needsText("docs/configuration.md", `\`${setting}\``, `${setting} (run pnpm docs:configuration)`),
    ),
  ];
}

/** The lines of a code block of docs/permissions.md. */
function permissionsIn(block: string): string {
  return textOf("docs/permissions.md").split(`\`\`\`redis ${block}\n`)[1]?.split("```")[0] ?? "";
}

function permits(block: string, words: string): Need {
  return { file: "docs/permissions.md", what: `${words} in the block "redis ${block}"`, isThere: permissionsIn(block).includes(words) };
}

/** The roles that only read the rows. */
const WITHOUT_REDIS: ReadonlySet<string> = new Set(["web"]);

/** The rights of an exporter, and of the others to its queues. A test with real users proves the commands. */
function permissionsOf(name: string): Need[] {
  const role = roleOf(name);
  const [queue, processing] = [`~{cme}:${name}:*`, `~{cme}:${name}-processing:*`];
  const hasSecondStage = permissionsIn(role).includes(processing);
  return [
    permits(role, `ACL SETUSER cme-${role} reset`),
    ...[queue, "~{cme}:dead-letter:*", `~{cme}:excluded:${name}:*`].map((keys) => permits(role, keys)),
    permits("receiver", queue),
    ...["dashboard, read-only", "dashboard"].flatMap((block) => [permits(block, queue), permits(block, processing)]),
    permits("replay", queue),
    ...(hasSecondStage ? [permits("replay", processing)] : []),
  ];
}

interface Service {
  readonly build?: { readonly args?: { readonly APP?: string } };
}
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
}
interface Workflow {
  readonly jobs: {
    readonly images: { readonly strategy: { readonly matrix: { readonly app: readonly string[] } } };
    readonly compose: { readonly steps: readonly { readonly run?: string }[] };
  };
}
const { services } = parse(readText("compose.yaml"), { merge: true }) as Compose;
const { jobs } = parse(readText(".github/workflows/ci.yml")) as Workflow;
const composeUp = jobs.compose.steps.find(({ run }) => run?.startsWith("docker compose up"))?.run?.split(" ") ?? [];

/** What every role needs, whether it belongs to an exporter or not. */
function placesOf(role: string): Need[] {
  const isProcessor = exporterNames.some((name) => roleOf(name) === role);
  const rightsInRedis = [
    {
      file: "docs/permissions.md",
      what: `a block for ${role}, which begins with \`\`\`redis ${role}`,
      isThere: permissionsIn(role) !== "",
    },
    permits("on a cluster, besides", `ACL SETUSER cme-${role} `),
  ];
  return [
    ...(WITHOUT_REDIS.has(role) ? [] : rightsInRedis),
    { file: "compose.yaml", what: `a service ${role}, built with APP: ${role}`, isThere: services[role]?.build?.args?.APP === role },
    { file: ".github/workflows/ci.yml", what: `${role} in the matrix of images`, isThere: jobs.images.strategy.matrix.app.includes(role) },
    { file: ".github/workflows/ci.yml", what: `${role} among the services of "docker compose up"`, isThere: composeUp.includes(role) },
    needsText("README.md", `pnpm --filter ${role} start`),
    needsText("docs/operations.md", `\n| \`${role}\` `, `a row for ${role} in "What to install"`),
    ...(isProcessor
      ? [
          needsText("README.md", `(apps/${role}/README.md)`, `a link to apps/${role}/README.md`),
          needsText("docs/architecture.md", `\`apps/${role}\``),
          needsText("docs/troubleshooting.md", `\`${role.replace("-processor", " exporter")}\``, `a row for the components of ${role}`),
        ]
      : []),
    ...(role === "receiver" ? [] : [needsText("docs/operations.md", `\n| \`cme-${role}\` `, `a row for cme-${role} in "Kubernetes"`)]),
  ];
}

function missing(needs: readonly Need[]): string[] {
  return needs.filter(({ isThere }) => !isThere).map(({ file, what }) => `${file} lacks ${what}`);
}

it.each(exporterNames)("the exporter %s is complete and registered", (name) => {
  expect(missing(codeOf(name))).toEqual([]);
});

it.each(exporterNames)("the queue of the exporter %s is in the rights of its users", (name) => {
  expect(missing(permissionsOf(name))).toEqual([]);
});

it.each(roleNames)("the role %s is deployed and documented everywhere", (role) => {
  expect(missing(placesOf(role))).toEqual([]);
});

it("every role has a health port of its own", () => {
  const ports = ALL_ROLES.map(({ healthPort }) => healthPort);
  expect(ports).not.toContain(undefined);
  expect(new Set(ports).size).toBe(ports.length);
});
