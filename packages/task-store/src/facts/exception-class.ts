/** The class of an exception from its Python `repr`. */

const MAX_LENGTH = 100;

/** `ValueError('x')` → `ValueError`; undefined if the text does not begin with a Python name, as in `<ExceptionInfo: …>`. */
export function exceptionClass(repr: string): string | undefined {
  return /^[\p{L}_][\p{L}\p{N}_.]*/u.exec(repr.slice(0, MAX_LENGTH))?.[0];
}
