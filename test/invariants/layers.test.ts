import { describe, expect, it } from "vitest";
import { readText, sourcesOf, workspacePackages, type WorkspacePackage } from "./workspace.ts";

type Layer = "base" | "core" | "control" | "app" | "top" | "demo" | "testkit";

/** The layers of docs/architecture.md: a package may use the layers below its own, but not its neighbors. */
const LAYERS: Readonly<Record<string, Layer>> = {
  "packages/celery": "base",
  "packages/runtime": "base",
  "packages/broker": "core",
  "packages/pipeline": "core",
  "packages/task-store": "core",
  "packages/db": "core",
  "packages/access": "core",
  "packages/control": "control",
  "packages/testkit": "testkit",
  "apps/receiver": "app",
  "apps/monitor": "app",
  "apps/dashboard": "app",
  "apps/web": "app",
  "apps/cli": "top",
  "apps/demo": "demo",
};
const MAY_USE: Readonly<Record<Layer, readonly Layer[]>> = {
  base: [],
  core: ["base"],
  // It talks to the workers over the connections of `packages/broker`.
  control: ["base", "core"],
  app: ["base", "core", "control"],
  top: ["base", "core", "control", "app"],
  // Never part of an image: it runs what the cli runs, with the Celery, the agent and the publishers of the tests.
  demo: ["base", "core", "control", "app", "top", "testkit"],
  // It publishes in Celery's wire format, which `packages/celery` writes. Our other packages use it in their own tests.
  testkit: ["base"],
};

const packages = workspacePackages();
const byName = new Map(packages.map((entry) => [entry.name, entry]));

function layerOf({ folder }: WorkspacePackage): Layer | undefined {
  return LAYERS[folder] ?? (/^apps\/[a-z-]+-processor$/.test(folder) ? "app" : undefined);
}

function internal(names: readonly string[]): WorkspacePackage[] {
  return names.flatMap((name) => byName.get(name) ?? []);
}

describe.each(packages)("$folder", (entry) => {
  const layer = layerOf(entry);

  it("belongs to a layer", () => {
    expect(layer).toBeDefined();
  });

  it("uses only layers below its own", () => {
    const used = internal(entry.dependencies).map((other) => ({ name: other.name, layer: layerOf(other) }));
    expect(used.filter((other) => other.layer === undefined || !MAY_USE[layer ?? "base"].includes(other.layer))).toEqual([]);
  });

  it("has only the testkit, or packages of the layers below, as development dependencies", () => {
    const used = internal(entry.devDependencies).filter((other) => layerOf(other) !== "testkit");
    expect(used.filter((other) => !MAY_USE[layer ?? "base"].includes(layerOf(other) ?? "top"))).toEqual([]);
  });

  it("imports in its sources only its dependencies", () => {
    const undeclared = sourcesOf(entry.folder)
      .filter((file) => !file.includes("/src/testing/"))
      .flatMap((file) => importsOf(file).map((name) => ({ file, name })))
      .filter(({ name }) => !entry.dependencies.includes(name));
    expect(undeclared).toEqual([]);
  });
});

describe("packages/control", () => {
  it("uses only the broker's package of the layer below", () => {
    const { dependencies = [] } = packages.find(({ folder }) => folder === "packages/control") ?? {};
    const used = internal(dependencies).filter((other) => layerOf(other) === "core");
    expect(used.map(({ folder }) => folder)).toEqual(["packages/broker"]);
  });
});

/** The packages that a file imports, ours and third-party. */
function importsOf(file: string): string[] {
  const specifiers = [...readText(file).matchAll(/(?:^|\n)(?:import|export)[^;]*? from "([^"]+)"|import\("([^"]+)"\)/g)];
  return specifiers
    .map(([, fixed, dynamic]) => fixed ?? dynamic ?? "")
    .filter((specifier) => !specifier.startsWith(".") && !specifier.startsWith("node:"))
    .map((specifier) =>
      specifier
        .split("/")
        .slice(0, specifier.startsWith("@") ? 2 : 1)
        .join("/"),
    );
}

/** The content of a file except imports and comments. */
function statementsOf(file: string): string[] {
  return readText(file)
    .split("\n")
    .filter((line) => line !== "" && !/^(import |\/?\*|\/\/)/.test(line.trimStart()));
}

describe("the process", () => {
  const sources = packages.filter(({ folder }) => folder !== "packages/testkit").flatMap(({ folder }) => sourcesOf(folder));
  const filesWith = (pattern: RegExp): string[] => sources.filter((file) => pattern.test(readText(file)));

  it("reads its environment in one place", () => {
    expect(filesWith(/\bprocess\.env\b|\bprocess\[["']env|import\s*\{[^}]*\benv\b[^}]*\}\s*from "node:process"/)).toEqual([
      "packages/runtime/src/config/environment.ts",
    ]);
  });

  it("exits in one place", () => {
    expect(filesWith(/\bprocess\.(exit|abort|reallyExit)\(|\bprocess\.exitCode\s*=/)).toEqual(["packages/runtime/src/process/signals.ts"]);
  });

  it("has only wiring in main.ts: imports and one call", () => {
    const mains = sources.filter((file) => file.endsWith("/src/main.ts"));
    expect(mains.length).toBeGreaterThanOrEqual(5);
    expect(mains.filter((file) => statementsOf(file).length !== 1)).toEqual([]);
  });
});
