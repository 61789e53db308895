/** The system's own Chromium or Chrome, driven by playwright-core (which brings no browser). */
import { type Browser, chromium } from "playwright-core";
import { findChromium } from "./services/chromium.mjs";

/**
 * Starts a browser without a window.
 *
 * @throws {Error} when this machine has none.
 */
export async function launchChromium(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error("found no Chromium or Chrome on this machine");
  const asRoot = process.getuid?.() === 0;
  return chromium.launch({ executablePath, args: [...(asRoot ? ["--no-sandbox"] : []), "--disable-dev-shm-usage"] });
}
