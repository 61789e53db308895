/** Roles of users whom somebody else knows: a reverse proxy, or an OpenID Connect issuer. */
import { USER_ROLES, includesRole, type User, type UserRole } from "./user.ts";

/** The role of everyone who is in none of the groups; `none` refuses them. */
export const DEFAULT_ROLES = ["none", ...USER_ROLES] as const;
export type DefaultRole = (typeof DEFAULT_ROLES)[number];

export type GroupRoles = ReadonlyMap<string, UserRole>;

const ROLE = USER_ROLES.join("|");
/** Commas and blanks in names of groups, such as `cn=ops,dc=example,dc=com`, are kept. */
const SEPARATOR = new RegExp(`(?<=:(?:${ROLE}))\\s*(?:[,\\n]\\s*)+`);
const ENTRY = new RegExp(`^(.+):(${ROLE})$`, "s");

/** `group:role`, separated by commas or new lines. @throws {Error} with the problem. */
export function parseGroupRoles(text: string): [string, UserRole][] {
  const entries = text
    .trim()
    .split(SEPARATOR)
    .filter((entry) => entry !== "");
  return entries.map((entry, index) => {
    const [, group = "", role] = ENTRY.exec(entry) ?? [];
    if (group === "") throw new Error(`entry ${index + 1} must be a group and a role: group:role with one of ${USER_ROLES.join(", ")}`);
    return [group, role as UserRole];
  });
}

/** The highest role of the groups; undefined if the user may do nothing. */
export function roleOf(groups: readonly string[], roles: GroupRoles, otherwise: DefaultRole): UserRole | undefined {
  const highest = groups.reduce<UserRole | undefined>((best, group) => {
    const role = roles.get(group);
    return role !== undefined && (best === undefined || includesRole(role, best)) ? role : best;
  }, undefined);
  return highest ?? (otherwise === "none" ? undefined : otherwise);
}

const MAX_NAME = 200;

/** A name that somebody else gave a user, without characters that could mislead whoever reads it. */
export function userNamed(name: string, role: UserRole): User {
  // Cutting may leave half a character, which goes too.
  const readable = name.slice(0, MAX_NAME).replace(/\p{C}/gu, "").trim();
  return { name: readable || "?", role };
}
