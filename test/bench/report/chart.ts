/** Draws the benchmark's main figures: CPU per event of each role, and of the whole pipeline next to the naive design. */
import { fileURLToPath } from "node:url";
import { ROLES } from "../stage.ts";
import { formatNumber, median } from "./figure.ts";
import type { Results } from "./results.ts";

export const CHART_FILE = fileURLToPath(new URL("../../../docs/benchmark/chart.svg", import.meta.url));

interface Bar {
  readonly label: string;
  readonly value: number;
  /** A mark on the axis of the bars. */
  readonly goal?: number;
  readonly tone: "ours" | "other";
}

interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly Bar[];
}

const WIDTH = 760;
const LABEL_WIDTH = 250;
const BAR_WIDTH = 400;
const ROW = 26;
const TITLE = 40;
const MARGIN = 16;
/** Colors that are legible on white and on black. */
const COLOURS = { ours: "#2f9e6e", other: "#8a8f98", goal: "#d9480f", text: "#6b7280" } as const;

/** Omits panels whose scenarios were not run. */
export function chart(results: Results): string {
  const panels = [cpuPanel(results), naivePanel(results), speedPanel(results)].filter(({ bars }) => bars.length > 0);
  let top = MARGIN;
  const drawn = panels.map((panel) => {
    const picture = draw(panel, top);
    top += TITLE + panel.bars.length * ROW + MARGIN;
    return picture;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" font-family="system-ui, sans-serif" font-size="13" fill="${COLOURS.text}">\n${drawn.join("\n")}\n</svg>\n`;
}

function cpuPanel(results: Results): Panel {
  const bars = ROLES.flatMap((role) =>
    (["multi", "single"] as const).flatMap((framing): Bar[] => {
      const figure = results["cpu"]?.figures.find(({ name }) => name === `${role} (RabbitMQ, ${framing})`);
      if (figure === undefined) return [];
      const goal = figure.goal !== undefined && "atMost" in figure.goal ? { goal: figure.goal.atMost } : {};
      return [{ label: `${role}, ${framing}`, value: median(figure.rounds), tone: "ours", ...goal }];
    }),
  );
  return { title: "CPU time per event of each process, from RabbitMQ", unit: "µs", bars };
}

function naivePanel(results: Results): Panel {
  return { title: "CPU time per event of all Node processes", unit: "µs", bars: besideNaive(results, "Node processes") };
}

function speedPanel(results: Results): Panel {
  return { title: "Events per second, servers and load on the same two cores", unit: "", bars: besideNaive(results, "from first to last") };
}

function besideNaive(results: Results, what: string): Bar[] {
  return (["ours", "naive"] as const).flatMap((design): Bar[] => {
    const figure = results["naive"]?.figures.find(({ name }) => name === `${design}: ${what}`);
    if (figure === undefined) return [];
    const label = design === "ours" ? "celery-metrics-exporter" : "one event per job, write and row";
    return [{ label, value: median(figure.rounds), tone: design === "ours" ? "ours" : "other" }];
  });
}

function draw({ title, unit, bars }: Panel, top: number): string {
  const most = Math.max(...bars.flatMap(({ value, goal = 0 }) => [value, goal]));
  const length = (value: number): number => Math.round((value / most) * BAR_WIDTH);
  const rows = bars.map(({ label, value, goal, tone }, index) => {
    const y = top + TITLE + index * ROW;
    const x = MARGIN + LABEL_WIDTH;
    const mark = goal === undefined ? "" : `<path d="M${x + length(goal)} ${y - 3}v20" stroke="${COLOURS.goal}" stroke-width="2"/>`;
    return [
      `<text x="${x - 8}" y="${y + 12}" text-anchor="end">${label}</text>`,
      `<rect x="${x}" y="${y}" width="${length(value)}" height="15" rx="2" fill="${COLOURS[tone]}"/>`,
      mark,
      `<text x="${x + Math.max(length(value), length(goal ?? 0)) + 8}" y="${y + 12}">${formatNumber(value)} ${unit}</text>`,
    ].join("");
  });
  const goals = bars.some(({ goal }) => goal !== undefined) ? ` <tspan fill="${COLOURS.goal}">| goal</tspan>` : "";
  return [`<text x="${MARGIN}" y="${top + 20}" font-weight="600">${title}${goals}</text>`, ...rows].join("\n");
}
