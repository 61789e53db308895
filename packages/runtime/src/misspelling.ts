/** Which of our settings a variable may be meant for. */
import { editDistance } from "./nearest.ts";
import { SETTING_NAMES } from "./setting-names.ts";

/** A name this close to one of ours is a misspelling of it. */
const MAX_TYPOS = 2;

const KNOWN: ReadonlySet<string> = new Set(SETTING_NAMES);

/** The setting's name in a variable's: `NAME_FILE` stands for `NAME`. */
export function settingOf(variable: string): string {
  return variable.replace(/_FILE$/i, "");
}

/** Whether a variable is a setting of any role. */
export function isSetting(variable: string): boolean {
  return KNOWN.has(settingOf(variable));
}

/** Whether a variable that is no setting looks like this one. Short names are too easily alike. */
export function isMisspelt(variable: string, known: string): boolean {
  if (known.length < 8 || isSetting(variable)) return false;
  const name = settingOf(variable).toUpperCase();
  return Math.abs(name.length - known.length) <= MAX_TYPOS && editDistance(name, known) <= MAX_TYPOS;
}
