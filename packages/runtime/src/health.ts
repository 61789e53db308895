/** What a process knows of its own health: its components, each up or down with a reason. */

/** The readiness of one component, told by the code that owns it. */
export interface ComponentHealth {
  up(): void;
  down(reason: string): void;
}

export interface HealthReport {
  readonly ready: boolean;
  /** `"up"`, or why it is down. */
  readonly components: Readonly<Record<string, string>>;
}

/** Ready when every component is up and no drain has begun. A component is down until it first says otherwise. */
export class Health {
  readonly #components = new Map<string, string>();
  #draining = false;

  component(name: string): ComponentHealth {
    this.#components.set(name, "starting");
    return {
      up: () => void this.#components.set(name, "up"),
      down: (reason) => void this.#components.set(name, withoutPasswords(reason)),
    };
  }

  /** From now on not ready, whatever the components say. */
  drain(): void {
    this.#draining = true;
  }

  report(): HealthReport {
    const components = Object.fromEntries(this.#components);
    if (this.#draining) components["process"] = "draining";
    return { ready: Object.values(components).every((state) => state === "up"), components };
  }
}

/** Anyone may ask for `/readyz`, and reasons are often a library's own words, which may quote a URL. */
function withoutPasswords(reason: string): string {
  return reason.replace(/:\/\/\S*@/g, "://***@");
}
