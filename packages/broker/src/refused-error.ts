/** Thrown when a broker answers and does not want us: wrong user, password, virtual host, database, or a missing permission. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
}
