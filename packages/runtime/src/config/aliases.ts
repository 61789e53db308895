/** Variables of other programs that are read in place of a setting, so that a deployment of such a program can be taken over with its variables. */
import { z } from "zod";
import { ConfigError } from "../errors.ts";
import type { Environment } from "./config.ts";
import type { ConfigWarning } from "./warnings.ts";

export interface Alias {
  readonly variable: string;
  /** Writes its value as the setting has it, or says why that is not possible, without the value. Without it, both are written alike. */
  readonly read?: (value: string) => string | { readonly problem: string };
}

/** A variable of another program that has no counterpart here. */
export interface Obsolete {
  readonly variable: string;
  /** What to do instead. Completes the sentence “… has no effect:”. */
  readonly advice: string;
}

/** A setting with its aliases. */
export interface Aliased {
  readonly name: string;
  readonly aliases: readonly (Alias | Obsolete)[];
}

const registry = z.registry<{ aliases: readonly (Alias | Obsolete)[] }>();

/** Declares the aliases of a setting. Must be the outermost call, after `.describe()`. Of several aliases that are set, the first counts. */
export function aliased<T extends z.ZodType>(schema: T, ...aliases: readonly (Alias | Obsolete)[]): T {
  registry.add(schema, { aliases });
  return schema;
}

export function aliasesOf(schema: z.ZodType): readonly (Alias | Obsolete)[] {
  return registry.get(schema)?.aliases ?? [];
}

/** What an alias of a setting says, if one is set. */
interface AliasValue {
  readonly variable: string;
  readonly value: string;
}

/**
 * The value of a setting's first alias that is set. Ask only if the setting itself is not set.
 *
 * @throws {ConfigError} if it has no counterpart.
 */
export function readAlias({ name, aliases }: Aliased, env: Environment): AliasValue | undefined {
  for (const alias of aliases) {
    const given = env[alias.variable] ?? "";
    if (given === "" || "advice" in alias) continue;
    const value = alias.read?.(given) ?? given;
    if (typeof value !== "string") throw new ConfigError([`${alias.variable}: ${value.problem} (it stands for ${name})`]);
    return { variable: alias.variable, value };
  }
  return undefined;
}

/** The environment with every setting that only an alias sets. What cannot be read is left out: `loadConfig` reports it. */
export function withAliases(settings: readonly Aliased[], env: Environment): Environment {
  const added: Record<string, string> = {};
  for (const setting of settings) {
    const read = isSet(setting.name, env) ? undefined : readIfPossible(setting, env);
    if (read !== undefined) added[setting.name] = read.value;
  }
  return { ...env, ...added };
}

export interface AliasReport {
  /** What sets what. */
  readonly used: readonly { readonly alias: string; readonly setting: string }[];
  readonly warnings: readonly ConfigWarning[];
}

/** What to tell of the aliases in the environment, each once. Also after `withAliases`. */
export function reportAliases(settings: readonly Aliased[], env: Environment): AliasReport {
  const used = new Map<string, string>();
  const warnings = new Map<string, string>();
  for (const setting of settings) {
    const { name, aliases } = setting;
    const read = readIfPossible(setting, env);
    for (const alias of aliases) {
      const { variable } = alias;
      if ((env[variable] ?? "") === "") continue;
      if ("advice" in alias) warnings.set(variable, alias.advice);
      else if (read?.variable !== variable || (isSet(name, env) && env[name] !== read.value))
        warnings.set(variable, `is ignored, because ${read?.variable === variable ? name : (read?.variable ?? name)} is set too`);
      else used.set(variable, name);
    }
  }
  return {
    used: [...used].map(([alias, setting]) => ({ alias, setting })),
    warnings: [...warnings].map(([setting, problem]) => ({ setting, problem })),
  };
}

/** Whether a setting is set, in a variable or in a file. An empty variable counts as not set. */
export function isSet(name: string, env: Environment): boolean {
  return (env[name] ?? "") !== "" || (env[`${name}_FILE`] ?? "") !== "";
}

function readIfPossible(setting: Aliased, env: Environment): AliasValue | undefined {
  try {
    return readAlias(setting, env);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return undefined;
    throw thrown;
  }
}
