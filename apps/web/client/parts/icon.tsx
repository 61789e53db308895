/** Icons of 16 pixels, drawn with the colour of the text. */
import type { JSX } from "preact";

const CIRCLE = "M13.5 8a5.5 5.5 0 1 1-11 0 5.5 5.5 0 0 1 11 0z";

const PATHS = {
  brand:
    "M8 14.5V5.5M8 14.5c0-4-1.2-6-4-7.5M8 14.5c0-4 1.2-6 4-7.5M8 5.5C6.7 4.6 6.7 2.6 8 1.5c1.3 1.1 1.3 3.1 0 4zM4 7C2.6 7 1.6 6 1.7 4.3 3.3 4.3 4.3 5.3 4 7zM12 7c1.4 0 2.4-1 2.3-2.7C12.7 4.3 11.7 5.3 12 7z",
  chev: "m6 3.8 4.2 4.2L6 12.2",
  clock: `${CIRCLE}M8 4.7V8l2.3 1.5`,
  copy: "M5.5 5.5h7v8h-7zM3.5 10.5v-8h7",
  dn: "M8 3v9.5M4.3 8.8 8 12.5l3.7-3.7",
  down: "m3.8 6 4.2 4.2L12.2 6",
  failure: "m4 4 8 8M12 4l-8 8",
  filter: "M2.5 4h11M4.5 8h7M6.5 12h3",
  info: `${CIRCLE}M8 7.5v3.3M8 5.2v.05`,
  keys: "M1.5 4.5h13v7.5h-13zM4 7h.01M6.5 7h.01M9 7h.01M11.5 7h.01M5 9.7h6",
  live: `${CIRCLE}M8 8h.01`,
  lost: "M5.6 5.9a2.45 2.45 0 1 1 3.5 2.2C8.3 8.5 8 9 8 9.8M8 12.6v.05",
  overview: "M1.5 8.5h2.7L6 3.5l3.5 9 2-4h3",
  pending: CIRCLE,
  queues: "M2.5 4.5h3v7h-3zM6.8 4.5h2.5v7H6.8zM10.7 8h3.5m-1.7-2 2 2-2 2",
  received: "M8 2.5v6.3M5.4 6.3 8 8.9l2.6-2.6M2.8 9.5v3.6h10.4V9.5",
  rejected: "M6 3.5 2.8 6.7 6 9.9M2.8 6.7h6.4a3.5 3.5 0 0 1 0 7H7.5",
  retry: "M13 8.2A5 5 0 1 1 11.4 4.5M11.6 1.9v2.8H8.8",
  revoked: `${CIRCLE}M4.2 11.8l7.6-7.6`,
  search: "M11.3 7a4.3 4.3 0 1 1-8.6 0 4.3 4.3 0 0 1 8.6 0zM10.2 10.2l3.3 3.3",
  sent: "M4 12 12 4M6 4h6v6",
  started: "M5 3.2v9.6L12.6 8z",
  success: "M3 8.6 6.4 12 13 4.6",
  tasks: "M2.5 4h.01M2.5 8h.01M2.5 12h.01M5.5 4h8M5.5 8h8M5.5 12h5",
  theme: `${CIRCLE}M8 2.5v11M8 5h4.5M8 8h5.3M8 11h4.5`,
  types: "M8 2 14 5 8 8 2 5zM2 8l6 3 6-3M2 11l6 3 6-3",
  up: "M8 13V3.5M4.3 7.2 8 3.5l3.7 3.7",
  warn: "M8 2.3 14.2 13H1.8zM8 6.5v3M8 11.3v.05",
  workers: "M2.5 3h11v4.3h-11zM2.5 8.7h11V13h-11zM5 5.15h.01M5 10.85h.01M8 5.15h3M8 10.85h3",
  x: "m4.5 4.5 7 7M11.5 4.5l-7 7",
} as const;

export type IconName = keyof typeof PATHS;

export interface IconProps {
  readonly name: IconName;
  /** What it says if no word stands beside it. */
  readonly label?: string;
  readonly class?: string;
}

export function Icon({ name, label, class: more = "" }: IconProps): JSX.Element {
  const says = label === undefined ? ({ "aria-hidden": "true" } as const) : ({ role: "img", "aria-label": label } as const);
  return (
    <svg class={`i ${more}`} viewBox="0 0 16 16" {...says}>
      <path
        d={PATHS[name]}
        fill={name === "started" ? "currentColor" : undefined}
        stroke-dasharray={name === "pending" ? "1.6 2.72" : undefined}
      />
    </svg>
  );
}
