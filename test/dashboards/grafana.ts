/** Reads the dashboards for Grafana and the alert rules as far as the tests need them. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { ROOT, readText } from "../invariants/workspace.ts";

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat?: string;
}

export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly datasource: { readonly uid: string };
  readonly targets: readonly Target[];
  readonly fieldConfig: { readonly defaults: { readonly unit?: string } };
}

export interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string;
}

export interface Dashboard {
  readonly file: string;
  readonly uid: string;
  readonly title: string;
  readonly schemaVersion: number;
  readonly templating: { readonly list: readonly Variable[] };
  readonly panels: readonly Panel[];
}

export interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** An expression and where it is. */
export type Located = readonly [place: string, expression: string];

const FOLDER = "dashboards/grafana";
export const RULES = "dashboards/prometheus/rules.yaml";
export const RULE_TESTS = "dashboards/prometheus/rules.test.yaml";

export function grafanaDashboards(): Dashboard[] {
  return readdirSync(join(ROOT, FOLDER)).map((name) => ({
    ...(JSON.parse(readText(`${FOLDER}/${name}`)) as Omit<Dashboard, "file">),
    file: name,
  }));
}

export function rules(): Rule[] {
  return (parse(readText(RULES)) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
}

export function panelExpressions(dashboards: readonly Dashboard[]): Located[] {
  return dashboards.flatMap(({ file, panels }) =>
    panels.flatMap(({ title, targets }) => targets.map(({ refId, expr }) => [`${file}: ${title}, ${refId}`, expr] as const)),
  );
}

export function ruleExpressions(): Located[] {
  return rules().map(({ alert, expr }) => [alert, expr]);
}

/** Of the variables that offer what Prometheus has. */
export function variableQueries(dashboards: readonly Dashboard[]): string[] {
  return dashboards.flatMap(({ templating }) => templating.list.filter(({ type }) => type === "query").map(({ query }) => query));
}

/** As Grafana replaces its variables; those not given are “All”. */
export function withoutVariables(expression: string, values: Readonly<Record<string, string>> = {}): string {
  const replaced = { __rate_interval: "5m", __range: "5m", ...values };
  return expression.replaceAll(/\$(\w+)/g, (_, name: string) => (replaced as Record<string, string>)[name] ?? ".*");
}

/** The label and the series of `label_values(series, label)`. */
export function labelValues(query: string): { readonly selector: string; readonly label: string } {
  const [, selector = "", label = ""] = /^label_values\((.+), (\w+)\)$/.exec(query) ?? [];
  return { selector, label };
}
