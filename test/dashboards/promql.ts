/** What a PromQL expression reads, from its syntax tree. */
import { parser } from "@prometheus-io/lezer-promql";

export interface Selector {
  /** The name of the series; for `{__name__=~"…"}` the regular expression. */
  readonly name: string;
  readonly labels: readonly string[];
}

/** Labels after `by`, `on` and the like. */
export interface Grouping {
  readonly labels: readonly string[];
  /** The names of the series that are grouped. */
  readonly names: readonly string[];
}

export interface Expression {
  readonly selectors: readonly Selector[];
  readonly groupings: readonly Grouping[];
}

type Tree = ReturnType<typeof parser.parse>;
type Node = Tree["topNode"];

/** @throws {SyntaxError} with the place where it is wrong. */
export function parseExpression(text: string): Expression {
  const tree = parser.parse(text);
  const selectors: Selector[] = [];
  const groupings: Grouping[] = [];
  tree.iterate({
    enter: ({ type, from, node }) => {
      if (type.isError) throw new SyntaxError(`${text.slice(0, from)} <<< here >>> ${text.slice(from)}`);
      if (type.name === "VectorSelector") selectors.push(selectorOf(node, text));
      if (type.name === "GroupingLabels") groupings.push({ labels: textsOf(node, "LabelName", text), names: groupedBy(node, text) });
    },
  });
  return { selectors, groupings };
}

function selectorOf(node: Node, text: string): Selector {
  const labels = textsOf(node, "LabelName", text);
  const [name] = textsOf(node, "Identifier", text);
  const pattern = /__name__\s*=~?\s*"([^"]+)"/.exec(text.slice(node.from, node.to))?.[1];
  return { name: name ?? pattern ?? "", labels: labels.filter((label) => label !== "__name__") };
}

/** The names within the aggregation or operation to which the labels belong. */
function groupedBy(node: Node, text: string): string[] {
  let owner: Node | null = node;
  while (owner !== null && !["AggregateExpr", "BinaryExpr"].includes(owner.name)) owner = owner.parent;
  const names: string[] = [];
  owner?.cursor().iterate(({ name, node: inner }) => {
    if (name === "VectorSelector") names.push(selectorOf(inner, text).name);
  });
  return names;
}

function textsOf(node: Node, kind: string, text: string): string[] {
  const texts: string[] = [];
  node.cursor().iterate(({ name, from, to }) => {
    if (name === kind) texts.push(text.slice(from, to));
  });
  return texts;
}
