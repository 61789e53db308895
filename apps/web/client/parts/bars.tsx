/** The parts of lives of tasks as bars. */
import type { JSX } from "preact";
import type { Kind, Part } from "./life.ts";

const LOOKS: Readonly<Record<Kind, readonly [fill: string, y: number, height: number]>> = {
  held: ["a-hollow", 8, 4],
  waited: ["a-wait", 7, 6],
  between: ["a-hollow", 8, 4],
  ran: ["a-run", 3, 14],
  succeeded: ["a-ok", 3, 14],
  failed: ["a-fail", 3, 14],
};

/** An instant has a width too. */
const LEAST_MS = 0.001;
/** More are too thin to see. */
const MOST_PARTS = 200;

export interface BarsProps {
  readonly parts: readonly Part[];
  /** What the whole width shows. */
  readonly from: number;
  readonly to: number;
  readonly class: string;
  readonly label: string;
}

/** Parts as bars. Each is wide enough to be seen. */
export function Bars({ parts, from, to, class: name, label }: BarsProps): JSX.Element {
  const whole = Math.max(LEAST_MS, to - from);
  const share = (length: number): number => (Math.max(0, length) / whole) * 100;
  return (
    <svg class={name} role="img" aria-label={label}>
      {parts.slice(-MOST_PARTS).map((part, index) => {
        const [fill, y, height] = LOOKS[part.kind];
        const width = Math.max(0.5, share(part.to - part.from));
        const x = Math.min(share(part.from - from), 100 - width);
        return <rect key={index} class={fill} x={`${x.toFixed(2)}%`} width={`${width.toFixed(2)}%`} y={y} height={height} rx="2" />;
      })}
    </svg>
  );
}
