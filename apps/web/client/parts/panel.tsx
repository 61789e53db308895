/** A part of a page with a title. */
import type { ComponentChildren, JSX } from "preact";

export interface PanelProps {
  readonly title: string;
  readonly sub?: string | undefined;
  readonly id?: string;
  readonly link?: ComponentChildren;
  readonly children: ComponentChildren;
}

export function Panel({ title, sub, id, link, children }: PanelProps): JSX.Element {
  return (
    <section class="panel" aria-label={title} id={id}>
      <header>
        <h2>{title}</h2>
        {sub !== undefined && <p>{sub}</p>}
        {link}
      </header>
      {children}
    </section>
  );
}
