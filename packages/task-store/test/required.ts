/** A value that a test cannot do without. */
export function required<V>(value: V | undefined): V {
  if (value === undefined) throw new Error("there is none");
  return value;
}
