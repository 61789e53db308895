/** The dashboards and alerts show only what is documented, and all of it that is about Celery. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { describe, expect, it } from "vitest";
import { CELERY_EXPORTER_SERIES, celeryExporterExpressions } from "../dashboards/celery-exporter.ts";
import { datadogFiles, queriesIn, readDatadog, readsOf } from "../dashboards/datadog.ts";
import { celeryMetrics, datadogMetrics, documentedRelabelling, ownMetrics, seriesOf } from "../dashboards/documented.ts";
import {
  RULE_TESTS,
  type Located,
  grafanaDashboards,
  labelValues,
  panelExpressions,
  ruleExpressions,
  rules,
  withoutVariables,
} from "../dashboards/grafana.ts";
import { parseExpression } from "../dashboards/promql.ts";
import { ROOT, headingsOf, readText } from "./workspace.ts";

/** What Prometheus adds, and what every Node.js process shows. */
const FROM_ELSEWHERE = new Map([
  ["up", []],
  ["process_resident_memory_bytes", []],
  ["process_cpu_seconds_total", []],
]);
const TARGET_LABELS = ["job", "instance"];

const celerySeries = seriesOf(celeryMetrics());
const documented = new Map([...celerySeries, ...seriesOf(ownMetrics()), ...FROM_ELSEWHERE]);
const dashboards = grafanaDashboards();
const panels = dashboards.flatMap(({ file, panels: ofFile }) => ofFile.map((panel) => ({ ...panel, place: `${file}: ${panel.title}` })));

/** The documented series that a name or regular expression stands for. */
function seriesNamed(name: string): string[] {
  const pattern = new RegExp(`^(?:${name})$`);
  return [...documented.keys()].filter((each) => pattern.test(each));
}

/** The labels that any of the series may have. */
function labelsOf(names: readonly string[]): string[] {
  return names.flatMap(seriesNamed).flatMap((name) => [...(documented.get(name) ?? []), ...TARGET_LABELS]);
}

/** What an expression uses that is not documented. */
function undocumented([place, expression]: Located): string[] {
  const { selectors, groupings } = parseExpression(withoutVariables(expression));
  return [
    ...selectors.filter(({ name }) => seriesNamed(name).length === 0).map(({ name }) => name),
    ...[...selectors.map(({ name, labels }) => ({ names: [name], labels })), ...groupings].flatMap(({ names, labels }) =>
      labels.filter((label) => !labelsOf(names).includes(label)).map((label) => `${label} of ${names.join()}`),
    ),
  ].map((what) => `${place}: ${what}`);
}

describe("expressions of dashboards and alerts", () => {
  const expressions = [...panelExpressions(dashboards), ...ruleExpressions()];

  it("parse, and use only series and labels that are documented", () => {
    expect(expressions.length).toBeGreaterThan(100);
    expect(expressions.flatMap(undocumented)).toEqual([]);
  });

  it("show every series about Celery in a panel", () => {
    const shown = new Set(
      panelExpressions(dashboards).flatMap(([, expression]) =>
        parseExpression(withoutVariables(expression)).selectors.map(({ name }) => name.replace(/_(bucket|sum|count)$/, "")),
      ),
    );
    const names = celeryMetrics().map(({ name }) => name);
    expect(names.length).toBeGreaterThan(20);
    expect(names.filter((name) => !shown.has(name.replace(/_(bucket|sum|count)$/, "")))).toEqual([]);
  });

  it("of the overview use only series of celery-exporter", () => {
    const overview = panelExpressions(dashboards.filter(({ file }) => file === "overview.json"));
    const names = overview.flatMap(([, expression]) => parseExpression(withoutVariables(expression)).selectors.map(({ name }) => name));
    expect(names.filter((name) => !CELERY_EXPORTER_SERIES.includes(name))).toEqual([]);
  });

  it("of celery-exporter's dashboards use series that we document", () => {
    const names = celeryExporterExpressions().flatMap(([, expression]) =>
      parseExpression(withoutVariables(expression)).selectors.map(({ name }) => name),
    );
    expect([...CELERY_EXPORTER_SERIES, ...names].filter((name) => !celerySeries.has(name))).toEqual([]);
  });
});

describe("the documented scrape", () => {
  it("gives every series about Celery one constant instance, but not what a processor says of itself", () => {
    const [rule, ...others] = documentedRelabelling();
    expect(others).toEqual([]);
    expect(rule).toMatchObject({ source_labels: ["__name__"], target_label: "instance" });
    const renamed = [...celerySeries.keys(), "up"].filter((name) => new RegExp(`^(?:${rule?.regex})$`).test(name));
    expect(renamed).toEqual([...celerySeries.keys()].filter((name) => !name.startsWith("celery_exporter_")));
  });
});

describe("dashboards for Grafana", () => {
  it("are four, each with a uid and a title of its own", () => {
    expect(dashboards.map(({ file }) => file)).toEqual(["overview.json", "pipeline.json", "task.json", "workers-and-queues.json"]);
    expect(new Set(dashboards.map(({ uid }) => uid)).size).toBe(4);
    expect(new Set(dashboards.map(({ title }) => title)).size).toBe(4);
    expect(dashboards.map(({ schemaVersion }) => schemaVersion)).toEqual([39, 39, 39, 39]);
  });

  it("read everything from the data source that the reader selects", () => {
    for (const { templating } of dashboards) expect(templating.list[0]).toMatchObject({ name: "datasource", type: "datasource" });
    expect(panels.filter(({ datasource }) => datasource.uid !== "${datasource}").map(({ place }) => place)).toEqual([]);
  });

  it("use only variables that they define, and those of Grafana", () => {
    const unknown = dashboards.flatMap(({ file, templating, panels: ofFile }) => {
      const known = ["__rate_interval", "__range", ...templating.list.map(({ name }) => name)];
      const texts = [...templating.list.map(({ query }) => query), ...ofFile.flatMap(({ targets }) => targets.map(({ expr }) => expr))];
      const used = texts.flatMap((text) => [...text.matchAll(/\$(\w+)/g)].map(([, name = ""]) => name));
      return used.filter((name) => !known.includes(name)).map((name) => `${file}: ${name}`);
    });
    expect(unknown).toEqual([]);
  });

  it("load their variables from series that celery-exporter has too", () => {
    const queries = dashboards
      .filter(({ file }) => file !== "pipeline.json")
      .flatMap(({ templating }) => templating.list.filter(({ type }) => type === "query").map(({ query }) => query));
    expect(queries.length).toBeGreaterThan(5);
    for (const query of queries) {
      const { selector, label } = labelValues(query);
      const [{ name, labels } = { name: "", labels: [] }] = parseExpression(withoutVariables(selector)).selectors;
      expect(CELERY_EXPORTER_SERIES, query).toContain(name);
      expect([...(documented.get(name) ?? []), ...TARGET_LABELS], query).toEqual(expect.arrayContaining([...labels, label]));
    }
  });

  it("have a unit and a description in every panel", () => {
    const bare = panels.filter(
      ({ type, description, fieldConfig }) =>
        description === "" || (type !== "heatmap" && type !== "state-timeline" && !fieldConfig.defaults.unit),
    );
    expect(bare.map(({ place }) => place)).toEqual([]);
  });

  it("have legends whose labels the expression keeps", () => {
    const wrong = panels.flatMap(({ place, targets }) =>
      targets.flatMap(({ expr, legendFormat = "" }) => {
        const { selectors, groupings } = parseExpression(withoutVariables(expr));
        const kept =
          groupings.length > 0
            ? groupings.flatMap(({ labels }) => labels)
            : [...TARGET_LABELS, ...selectors.flatMap(({ name }) => documented.get(name) ?? [])];
        const used = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = ""]) => label);
        return used.filter((label) => !kept.includes(label)).map((label) => `${place}: ${label}`);
      }),
    );
    expect(wrong).toEqual([]);
  });

  it("have panels that do not overlap and fit the 24 columns", () => {
    for (const { file, panels: ofFile } of dashboards) {
      const cells = ofFile.flatMap(({ gridPos: { x, y, w, h } }) =>
        Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)} ${y + Math.floor(cell / w)}`),
      );
      expect(new Set(cells).size, file).toBe(cells.length);
      expect(Math.max(...ofFile.map(({ gridPos }) => gridPos.x + gridPos.w)), file).toBe(24);
      expect(new Set(ofFile.map(({ id }) => id)).size, file).toBe(ofFile.length);
    }
  });
});

describe("alert rules", () => {
  it("have a severity, a summary and a description", () => {
    expect(rules().length).toBeGreaterThan(15);
    for (const { alert, labels, annotations } of rules()) {
      expect(["critical", "warning", "info"], alert).toContain(labels["severity"]);
      expect([annotations["summary"], annotations["description"]], alert).toEqual([expect.any(String), expect.any(String)]);
    }
  });

  it("point to a page and heading that exist", () => {
    for (const { alert, annotations } of rules()) {
      const [page = "", anchor = ""] = (annotations["runbook"] ?? "").split("#");
      expect(existsSync(join(ROOT, page)), alert).toBe(true);
      expect(headingsOf(page), alert).toContain(anchor);
    }
  });

  it("each have a test in which they fire, and one in which they are silent", () => {
    const { tests } = parse(readText(RULE_TESTS)) as {
      tests: { name: string; promql_expr_test: { expr: string; exp_samples: unknown[] }[] }[];
    };
    const cases = (isFiring: boolean): string[] =>
      tests.flatMap(({ name, promql_expr_test: list }) =>
        list.some(({ expr, exp_samples: samples }) => expr.includes(`alertname="${name}"`) && samples.length > 0 === isFiring)
          ? [name]
          : [],
      );
    const names = rules().map(({ alert }) => alert);
    expect(new Set(names).size).toBe(names.length);
    expect(cases(true)).toEqual(names);
    expect(cases(false)).toEqual(names);
  });
});

describe("dashboard and monitors for Datadog", () => {
  const files = datadogFiles();
  const metrics = datadogMetrics();
  /** Aggregations that make sense for each type. */
  const aggregations: Readonly<Record<string, readonly string[]>> = {
    distribution: ["p50", "p95", "p99"],
    count: ["sum"],
    gauge: ["sum", "max", "avg"],
  };

  it.each(files)("%s reads only metrics and tags that are documented, in the way of their type", (file) => {
    const queries = queriesIn(readDatadog(file));
    expect(queries.length).toBeGreaterThan(0);
    for (const query of queries) {
      for (const { aggregation, metric, tags, isAsCount } of readsOf(query)) {
        const { type = "", tags: documentedTags = [] } = metrics.get(metric) ?? {};
        expect(aggregations[type], query).toContain(aggregation);
        expect(isAsCount, query).toBe(type === "count");
        // `env` comes from DATADOG_TAGS, or from the agent.
        expect(["env", ...documentedTags], query).toEqual(expect.arrayContaining([...tags]));
      }
    }
  });

  it("show every metric", () => {
    const shown = queriesIn(readDatadog("dashboard.json")).flatMap((query) => readsOf(query).map(({ metric }) => metric));
    expect([...metrics.keys()].filter((name) => !shown.includes(name))).toEqual([]);
  });

  it("have the fields that POST /api/v1/dashboard requires, and a query for every name in a formula", () => {
    const {
      title,
      layout_type: layout,
      widgets,
    } = readDatadog<{
      title: string;
      layout_type: string;
      widgets: {
        definition: { type: string; title: string; requests: { queries: { name: string }[]; formulas: { formula: string }[] }[] };
      }[];
    }>("dashboard.json");
    expect([typeof title, layout]).toEqual(["string", "ordered"]);
    for (const { definition } of widgets) {
      expect(["query_value", "timeseries", "query_table"]).toContain(definition.type);
      for (const { queries, formulas } of definition.requests) {
        const names = formulas.flatMap(({ formula }) =>
          [...formula.replaceAll(/'[^']*'|[a-z_]+\(/g, "").matchAll(/[a-z]\w*/g)].map(([name]) => name),
        );
        expect(new Set(names), definition.title).toEqual(new Set(queries.map(({ name }) => name)));
      }
    }
  });

  it.each(files.filter((file) => file !== "dashboard.json"))(
    "%s has the fields that POST /api/v1/monitor requires, and the limit of its query",
    (file) => {
      const { name, type, query, message, options } = readDatadog<{
        name: string;
        type: string;
        query: string;
        message: string;
        options: { thresholds: { critical: number; warning?: number } };
      }>(file);
      expect([name, message].every((text) => text.length > 10)).toBe(true);
      expect(type).toBe("query alert");
      const [, comparison, limit] =
        /^(?:(?:sum|min|max|percentile)\(last_\d+m\)|change\(avg\(last_\d+m\),last_\d+m\)):.+ ([<>]) (\d+)$/.exec(query) ?? [];
      const { critical, warning } = options.thresholds;
      expect(Number(limit)).toBe(critical);
      const distance = critical - (warning ?? (comparison === ">" ? 0 : Number.POSITIVE_INFINITY));
      expect(Math.sign(distance)).toBe(comparison === ">" ? 1 : -1);
      const named = [...`${name} ${message}`.matchAll(/\{\{(\w+)\.name\}\}/g)].map(([, tag = ""]) => tag);
      expect(readsOf(query).flatMap(({ tags }) => tags)).toEqual(expect.arrayContaining(named));
    },
  );
});
