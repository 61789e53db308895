/** Thrown when a broker answers and does not want us: wrong user, password, virtual host, database, or a missing permission. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  /** The setting to look at. */
  readonly setting: string;

  constructor(message: string, { setting = "CELERY_BROKER_URL", ...options }: ErrorOptions & { readonly setting?: string } = {}) {
    super(message, options);
    this.setting = setting;
  }
}

/** Thrown when what listens there is no such broker. */
export class OtherServerError extends RefusedError {
  constructor(name: string, options: ErrorOptions = {}) {
    super(`something else than ${name} listens there`, options);
  }
}
