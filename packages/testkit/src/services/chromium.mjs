/** Finds a Chromium or Chrome that is already on the machine. */
import { findProgram, isExecutable } from "./programs.mjs";

/** The first, without windows, takes a third of the others' CPU time. */
const NAMES = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
const MAC_APPLICATIONS = [
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** @returns {string | undefined} its full path; `$CHROMIUM` takes precedence. */
export function findChromium() {
  const given = process.env.CHROMIUM;
  if (given !== undefined && given !== "") return given;
  return findProgram(NAMES) ?? MAC_APPLICATIONS.find(isExecutable);
}
