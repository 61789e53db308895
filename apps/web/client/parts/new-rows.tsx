/** Rows that wait, so that no row moves under the pointer. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Icon } from "./icon.tsx";

const ANNOUNCE_MS = 5_000;

export interface NewRowsProps {
  readonly count: number;
  /** What they are: one, and several. */
  readonly noun: readonly [string, string];
  readonly onShow: () => void;
}

/** They are told to screen readers at most every five seconds. */
export function NewRows({ count, noun: [one, several], onShow }: NewRowsProps): JSX.Element {
  const [told, setTold] = useState(0);
  useEffect(() => {
    const timer = setTimeout(() => setTold(count), ANNOUNCE_MS);
    return () => clearTimeout(timer);
  }, [Math.sign(count), told === count]);
  return (
    <>
      <span class="sr" role="status">
        {told > 0 && `${told} new ${several}`}
      </span>
      {count > 0 && (
        <button class="newrows" type="button" onClick={onShow}>
          <Icon name="up" />
          Show {count} new {count === 1 ? one : several}
        </button>
      )}
    </>
  );
}
