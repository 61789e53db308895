/** Short, stable hashes: for spreading keys and for telling hosts apart. Not for secrets. */

/** FNV-1a over UTF-16 code units, with MurmurHash3's final mix so that every bit depends on every other. An unsigned 32-bit number. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const HOST_HASHES = 36 ** 5;
const MAX_KNOWN_HOSTS = 10_000;
/** There are few hosts, and each fact but one kind names one. */
const knownHosts = new Map<string, string>();

/**
 * A hostname in at most 5 characters. Only the workers of one task are ever compared: of two, both get the same hash once in 60 million tasks,
 * and then a second run counts as the first.
 */
export function hostHash(hostname: string): string {
  const known = knownHosts.get(hostname);
  if (known !== undefined) return known;
  const hash = (hash32(hostname) % HOST_HASHES).toString(36);
  if (knownHosts.size >= MAX_KNOWN_HOSTS) knownHosts.clear();
  knownHosts.set(hostname, hash);
  return hash;
}
