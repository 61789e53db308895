/** The head of a table. */
import type { ComponentChildren, JSX } from "preact";

/** What is above a column, with the classes of its cell: `n` for numbers, `p1` to `p3` if narrow screens leave it out. `span`: how many cells below. */
type Column = string | readonly [classes: string, title: ComponentChildren, span?: number];

export function Heads({ of }: { readonly of: readonly Column[] }): JSX.Element {
  return (
    <thead>
      <tr>
        {of.map((column, index) => {
          const [classes, title, span] = typeof column === "string" ? [undefined, column] : column;
          return (
            <th key={index} scope="col" class={classes} colSpan={span}>
              {title}
            </th>
          );
        })}
      </tr>
    </thead>
  );
}
