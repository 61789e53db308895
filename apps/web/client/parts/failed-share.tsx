/** The share of failures among the tasks that ended in success or failure. */
import type { JSX } from "preact";
import { percent } from "./format.ts";
import { Icon } from "./icon.tsx";

/** A share that needs a look. */
export const BAD_SHARE = 0.01;

export function FailedShare({ failed, succeeded }: { readonly failed: number; readonly succeeded: number }): JSX.Element {
  if (failed === 0) return <span class="nil">0</span>;
  const share = failed / (failed + succeeded);
  if (share < BAD_SHARE) return <span>{percent(share)}</span>;
  return (
    <span class="bad">
      <Icon name="warn" class="inl" label="Many:" /> {percent(share)}
    </span>
  );
}
