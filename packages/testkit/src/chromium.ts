/** The system's own Chromium or Chrome, driven by playwright-core (which brings no browser). */
import type { Browser } from "playwright-core";
import { findChromium } from "./services/chromium.mjs";

/**
 * Starts a headless browser.
 *
 * @param more command-line switches.
 * @throws {Error} if this machine has none.
 */
export async function launchChromium(more: readonly string[] = []): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error("found no Chromium or Chrome on this machine");
  // Imported only here: loading takes half a second, which most tests and the demo would waste.
  const { chromium } = await import("playwright-core");
  const asRoot = process.getuid?.() === 0;
  return chromium.launch({ executablePath, args: [...(asRoot ? ["--no-sandbox"] : []), "--disable-dev-shm-usage", ...more] });
}
