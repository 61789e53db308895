/** The system's own Chromium or Chrome, driven by playwright-core (which brings no browser). */
import type { Browser } from "playwright-core";
import { findChromium } from "./services/chromium.mjs";

/**
 * Starts a browser without a window.
 *
 * @throws {Error} when this machine has none.
 */
export async function launchChromium(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error("found no Chromium or Chrome on this machine");
  // Only here: it takes half a second to load, which most tests and the demo would spend for nothing.
  const { chromium } = await import("playwright-core");
  const asRoot = process.getuid?.() === 0;
  return chromium.launch({ executablePath, args: [...(asRoot ? ["--no-sandbox"] : []), "--disable-dev-shm-usage"] });
}
