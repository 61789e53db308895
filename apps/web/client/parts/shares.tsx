/** Small pictures of counts: shares of a whole below each other, and counts over time. */
import type { ComponentChildren, JSX } from "preact";

export interface Share {
  readonly key: string;
  readonly label: ComponentChildren;
  /** From 0 to 1. */
  readonly share: number;
  readonly text: ComponentChildren;
}

export function Shares({ of, tone }: { readonly of: readonly Share[]; readonly tone: "fail" | "run" | "wait" }): JSX.Element {
  return (
    <ul class="prio">
      {of.map(({ key, label, share, text }) => (
        <li key={key}>
          <span class="cut">{label}</span>
          <svg aria-hidden="true">
            <rect class="base" width="100%" height="100%" rx="3" />
            <rect class={`a-${tone}`} width={`${(Math.min(1, Math.max(0, share)) * 100).toFixed(0)}%`} height="100%" rx="3" />
          </svg>
          <span class="n">{text}</span>
        </li>
      ))}
    </ul>
  );
}

const STEP = 10;
const HEIGHT = 24;

/** Small bars without axes, on a line. */
export function SparkBars({ values, label }: { readonly values: readonly number[]; readonly label: string }): JSX.Element {
  const top = Math.max(1, ...values);
  const bars = values.map((value, step) => {
    // The least is seen too.
    const size = value === 0 ? 0 : Math.max(2, (value / top) * HEIGHT);
    return size === 0 ? "" : `M${step * STEP + 2} ${HEIGHT}v${(-size).toFixed(1)}h6v${size.toFixed(1)}z`;
  });
  return (
    <svg class="spark wide" viewBox={`0 -1 ${values.length * STEP} ${HEIGHT + 2}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="a-fail" d={bars.join("")} />
      <path class="grid" d={`M0 ${HEIGHT + 0.5}h${values.length * STEP}`} />
    </svg>
  );
}
