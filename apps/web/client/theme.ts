/** The theme: that of the system, until another one is chosen. */
const KEY = "theme";

/** Storage may be switched off: then the choice lasts until the page is left. */
function storage<T>(use: (storage: Storage) => T): T | undefined {
  try {
    return use(localStorage);
  } catch {
    return undefined;
  }
}

export function restoreTheme(): void {
  const kept = storage((local) => local.getItem(KEY));
  if (kept === "light" || kept === "dark") document.documentElement.dataset["theme"] = kept;
}

export function switchTheme(): void {
  const { dataset } = document.documentElement;
  const present = dataset["theme"] ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const next = present === "dark" ? "light" : "dark";
  dataset["theme"] = next;
  storage((local) => local.setItem(KEY, next));
}
