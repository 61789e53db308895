/** The theme: that of the system, until another one is chosen. `early.ts` restores it. */
const KEY = "theme";

/** Storage may be switched off: then the choice lasts until the page is left. */
function storage<T>(use: (storage: Storage) => T): T | undefined {
  try {
    return use(localStorage);
  } catch {
    return undefined;
  }
}

export function switchTheme(): void {
  const { dataset } = document.documentElement;
  const present = dataset["theme"] ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const next = present === "dark" ? "light" : "dark";
  dataset["theme"] = next;
  storage((local) => local.setItem(KEY, next));
}
