import { configurationDocument } from "cli";
import { SETTING_NAMES } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { readText, sourcesOf, workspacePackages } from "./workspace.ts";

describe("docs/configuration.md", () => {
  it("is the output of `pnpm docs:configuration`", () => {
    expect(readText("docs/configuration.md")).toBe(configurationDocument());
  });

  it("has no setting that is missing from the list of all names, by which roles recognize other roles' settings", () => {
    const names = [...configurationDocument().matchAll(/^\| `([A-Z_]+)`/gm)].map(([, name]) => name);
    expect(SETTING_NAMES).toEqual(expect.arrayContaining(names));
  });

  it("describes every setting", () => {
    const rows = configurationDocument()
      .split("\n")
      .filter((line) => line.startsWith("| `"));
    expect(rows.length).toBeGreaterThan(20);
    expect(rows.filter((row) => /\|\s*\|$/.test(row))).toEqual([]);
  });
});

describe("docs/errors.md", () => {
  const inSources = new Set(
    workspacePackages()
      .flatMap(({ folder }) => sourcesOf(folder))
      .flatMap((file) => [...readText(file).matchAll(/(?:super|new CodedError)\(\s*"(ERR_[A-Z_]+)"/g)].map(([, code]) => code)),
  );
  const inDocument = [...readText("docs/errors.md").matchAll(/^\| `(ERR_[A-Z_]+)`/gm)].map(([, code]) => code);

  it("has a row for every code, and for no other", () => {
    expect(inSources).toContain("ERR_CONFIG_INVALID");
    expect(inDocument.toSorted()).toEqual([...inSources].toSorted());
  });
});

describe("docs/metrics.md", () => {
  const inSources = new Set(
    workspacePackages()
      .flatMap(({ folder }) => sourcesOf(folder))
      .filter((file) => !file.includes("/testing/"))
      .flatMap((file) => [...readText(file).matchAll(/\.(?:counter|gauge|histogram)\(\s*"([a-z_]+)"/g)].map(([, name]) => name)),
  );
  const inDocument = [...readText("docs/metrics.md").matchAll(/^\| `([a-z_]+)` +\| (?:counter|gauge|histogram)/gm)].map(([, name]) => name);

  it("has a row for every metric, and for no other", () => {
    expect(inSources).toContain("events_received_total");
    expect(inDocument.toSorted()).toEqual([...inSources].toSorted());
  });
});

describe("docs/guarantees.md", () => {
  const text = readText("docs/guarantees.md");
  /** A proof is written as `path/of.test.ts`: “name of the test”, “another”. */
  const proofs = [...text.matchAll(/`([\w./-]+\.test\.ts)`: ((?:“[^”]+”(?:, )?)+)/g)].map(([, file = "", names = ""]) => ({
    file,
    names: [...names.matchAll(/“([^”]+)”/g)].map(([, name = ""]) => name),
  }));
  const guarantees = text.split(/^- \*\*/m).slice(1);

  it("names a test for every guarantee", () => {
    expect(guarantees.length).toBeGreaterThan(20);
    expect(guarantees.filter((guarantee) => !guarantee.includes(".test.ts`: “"))).toEqual([]);
  });

  it("has the guarantees of docs/reliability.md, and no others", () => {
    expect(titlesOf(guarantees)).toEqual(
      titlesOf(
        readText("docs/reliability.md")
          .split(/^- \*\*/m)
          .slice(1),
      ),
    );
  });

  it.each(proofs)("names only tests that exist in $file", ({ file, names }) => {
    const source = readText(file);
    expect(names.filter((name) => !source.includes(name))).toEqual([]);
  });
});

describe("docs/operations.md", () => {
  const examples = [...readText("docs/operations.md").matchAll(/^```(?:sh|ini|yaml)\n(.*?)^```/gms)]
    .map(([, code = ""]) => code)
    .join("\n");

  it("sets only variables that a role or Node.js reads", () => {
    const assigned = [...examples.matchAll(/(?:^|\s)([A-Z][A-Z_]{3,})=/gm)].map(([, name = ""]) => name);
    const inYaml = [...examples.matchAll(/^\s*(?:- )?(?:\{ )?name: ([A-Z][A-Z_]+)|^\s+([A-Z][A-Z_]{3,}): /gm)].map(
      ([, one, other]) => one ?? other,
    );
    const names = [...assigned, ...inYaml];
    expect(names).toEqual(expect.arrayContaining(["CELERY_BROKER_URL", "DD_AGENT_HOST"]));
    const others = ["NODE_OPTIONS", "MALLOC_ARENA_MAX", "APP", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"];
    expect(names.filter((name) => ![...SETTING_NAMES, ...others].includes(name ?? ""))).toEqual([]);
  });
});

/** The bold sentence at the beginning of each part. */
function titlesOf(parts: readonly string[]): string[] {
  return parts.map((part) => part.slice(0, part.indexOf(".**")));
}
