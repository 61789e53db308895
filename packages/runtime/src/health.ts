/** What a process knows of its own health: its components, each up or down with a reason. */

/** The readiness of one component, told by the code that owns it. */
export interface ComponentHealth {
  /** @param as a word of its own for what it is, instead of `up`: `standby`. */
  up(as?: string): void;
  down(reason: string): void;
}

export interface HealthReport {
  readonly ready: boolean;
  /** `"up"` or its own word for that, or why it is down. */
  readonly components: Readonly<Record<string, string>>;
}

/** Ready when every component is up and no drain has begun. A component is down until it first says otherwise. */
export class Health {
  readonly #components = new Map<string, { readonly up: boolean; readonly state: string }>();
  #draining = false;

  component(name: string): ComponentHealth {
    const set = (up: boolean, state: string): void => void this.#components.set(name, { up, state });
    set(false, "starting");
    return {
      up: (as = "up") => set(true, as),
      down: (reason) => set(false, withoutPasswords(reason)),
    };
  }

  /** From now on not ready, whatever the components say. */
  drain(): void {
    this.#draining = true;
  }

  /** The components that are down, each with its reason. */
  whatIsDown(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#components].filter(([, { up }]) => !up).map(([name, { state }]) => [name, state]));
  }

  report(): HealthReport {
    const components = Object.fromEntries([...this.#components].map(([name, { state }]) => [name, state]));
    if (this.#draining) components["process"] = "draining";
    return { ready: !this.#draining && [...this.#components.values()].every(({ up }) => up), components };
  }
}

/** Anyone may ask for `/readyz`, and reasons are often a library's own words, which may quote a URL. */
function withoutPasswords(reason: string): string {
  return reason.replace(/:\/\/\S*@/g, "://***@");
}
