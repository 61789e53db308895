import { EXPORTERS } from "@celery-metrics-exporter/pipeline";
import { exporters } from "cli";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT, readText } from "./workspace.ts";

const registered = EXPORTERS.map(({ name }) => name);

describe("the exporters", () => {
  it("are the folders apps/*-processor", () => {
    const folders = readdirSync(join(ROOT, "apps")).filter((name) => name.endsWith("-processor"));
    expect(new Set(folders)).toEqual(new Set(registered.map((name) => `${name}-processor`)));
  });

  it("are the ones that the command line can run, under their own names", () => {
    expect(new Set(exporters.keys())).toEqual(new Set(registered));
    for (const [name, definition] of exporters) expect(definition.name).toBe(name);
  });

  it("are registered once each", () => {
    expect(new Set(registered).size).toBe(registered.length);
  });

  it.each(registered)("%s has a README, a contract test and its settings documented", (name) => {
    const folder = `apps/${name}-processor`;
    expect(existsSync(join(ROOT, folder, "README.md"))).toBe(true);
    expect(readText(`${folder}/test/contract.test.ts`)).toContain("describeExporter(");
    const documented = readText("docs/configuration.md");
    for (const setting of Object.keys(exporters.get(name)?.Config.shape ?? {})) expect(documented).toContain(`\`${setting}\``);
  });
});
