/** What opens above the page until it is left. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export interface DialogProps {
  /** Buttons name it as their `popovertarget`. */
  readonly id: string;
  readonly label: string;
  /** Called while it is open: what nobody sees is not drawn, and fields for times take long. */
  readonly children: () => ComponentChildren;
}

/** Its first control has the focus when it opens, unless another one is marked with `data-first`. */
export function Dialog({ id, label, children }: DialogProps): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!isOpen) return;
    const find = (selector: string): HTMLElement | null | undefined => element.current?.querySelector<HTMLElement>(selector);
    (find("[data-first]") ?? find("a, button, input"))?.focus();
  }, [isOpen]);
  return (
    <div
      class="pop dlg"
      id={id}
      popover="auto"
      role="dialog"
      aria-label={label}
      ref={element}
      onBeforeToggle={({ newState }) => newState === "open" && setOpen(true)}
      // After the focus has gone back to where it was before. It could not leave an element that is gone.
      onToggle={({ newState }) => newState === "closed" && setOpen(false)}
    >
      {isOpen && children()}
    </div>
  );
}

export function closeDialog(id: string): void {
  document.getElementById(id)?.hidePopover();
}
