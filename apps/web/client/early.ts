/**
 * Runs before everything else is loaded: sets the theme, so that nothing is painted in the wrong one, and asks what the page will ask first, because
 * the answer takes as long as the scripts do. Imports and exports nothing, because it is no module: modules
 * wait for the styles.
 */
(() => {
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset["theme"] = theme;
  } catch {
    // Storage may be switched off.
  }
  const query = new URLSearchParams(location.search);
  const page = location.pathname.split("/").at(-1);
  const id = query.get("id");
  query.set("limit", "50");
  if (query.has("from")) query.delete("range");
  const path = page === "tasks" ? `tasks?${query.toString()}` : page === "task" && id ? `tasks/${encodeURIComponent(id)}` : undefined;
  if (path === undefined || document.hidden) return;
  globalThis.early = { path, answer: fetch(`./api/v1/${path}`, { signal: AbortSignal.timeout(20_000) }) };
  // Whoever takes the answer hears of its failure.
  globalThis.early.answer.catch(() => {});
})();
