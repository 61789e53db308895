/** The address is the state of a page: what it shows can be shared, and back and forward work. */
import { computed, signal } from "@preact/signals";

/** Each page has one segment, so the folder never changes. */
const FOLDER = new URL(".", document.baseURI);

interface Place {
  /** The last segment; empty for the overview. */
  readonly page: string;
  readonly query: URLSearchParams;
}

const isInstant = (text: string): boolean => !Number.isNaN(Date.parse(text));
/** What is no time counts as absent, and so does a range that ends before it begins: an address may be cut off, or written by hand. */
const TIMES: readonly (readonly [name: string, isTime: (text: string) => boolean])[] = [
  ["from", isInstant],
  ["to", isInstant],
  ["range", (text) => /^([1-9]\d{0,4}[mhd]|all)$/.test(text)],
];

function read(): Place {
  const given = new URLSearchParams(window.location.search);
  for (const [name, isTime] of TIMES) {
    const text = given.get(name);
    if (text !== null && !isTime(text)) given.delete(name);
  }
  const [from, to] = [given.get("from"), given.get("to")];
  if (from !== null && to !== null && Date.parse(from) > Date.parse(to)) for (const name of ["from", "to"]) given.delete(name);
  // The API takes one of them.
  if (given.has("from")) given.delete("range");
  return { page: window.location.pathname.slice(FOLDER.pathname.length), query: given };
}

const place = signal(read());
export const page = computed(() => place.value.page);
export const query = computed(() => place.value.query);

export type QueryInput = URLSearchParams | Readonly<Record<string, string | number | readonly string[] | null | undefined>>;

/** A query without empty values. */
function toQuery(input: QueryInput): URLSearchParams {
  if (input instanceof URLSearchParams) return input;
  const entries = Object.entries(input).flatMap(([name, value]) => [value ?? []].flat().map((each) => [name, String(each)]));
  return new URLSearchParams(entries.filter(([, value]) => value !== ""));
}

/** The address of a page, for a link. */
export function href(to: string, input: QueryInput = {}): string {
  // These are legal in a query, and addresses are easier to read with them.
  const text = toQuery(input).toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%40", "@");
  return `./${to}${text === "" ? "" : `?${text}`}`;
}

/** The present query with changes; null takes a parameter away. The cursor belongs to the query before. */
export function changed(changes: Readonly<Record<string, string | readonly string[] | null>>): URLSearchParams {
  const result = new URLSearchParams(query.value);
  for (const [name, value] of Object.entries({ cursor: null, ...changes })) {
    result.delete(name);
    for (const each of [value ?? []].flat()) result.append(name, each);
  }
  return result;
}

export function navigate(to: string, { replace = false }: { readonly replace?: boolean } = {}): void {
  const url = new URL(to, FOLDER);
  if (url.href === window.location.href) return;
  const isOtherPage = url.pathname !== window.location.pathname;
  if (replace) history.replaceState(null, "", url);
  else {
    history.replaceState({ top: window.scrollY }, "");
    history.pushState(null, "", url);
  }
  place.value = read();
  if (isOtherPage) window.scrollTo(0, 0);
  else if (url.hash !== "") document.getElementById(url.hash.slice(1))?.scrollIntoView();
}

const RESTORE_MS = 3_000;
const SETTLE_MS = 300;
const MOVES = ["wheel", "keydown", "pointerdown", "touchstart"] as const;

/** Scrolls back to where the reader was, once the page is high enough, unless they move meanwhile. */
function restoreScroll(top: number): void {
  const began = performance.now();
  let reached = Number.POSITIVE_INFINITY;
  const moved = new AbortController();
  for (const move of MOVES) addEventListener(move, () => moved.abort(), { signal: moved.signal, passive: true });
  const step = (): void => {
    if (moved.signal.aborted) return;
    window.scrollTo(0, top);
    const now = performance.now();
    if (Math.abs(window.scrollY - top) < 1) reached = Math.min(reached, now);
    // The page before may have been as high.
    if (now > Math.min(began + RESTORE_MS, reached + SETTLE_MS)) moved.abort();
    else requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function isOurs(url: URL): boolean {
  const rest = url.pathname.slice(FOLDER.pathname.length);
  return url.origin === FOLDER.origin && url.pathname.startsWith(FOLDER.pathname) && /^[a-z-]*$/.test(rest);
}

/** Follows links to our pages without loading anything. */
export function followLinks(): void {
  addEventListener("popstate", ({ state }: PopStateEvent) => {
    place.value = read();
    const { top } = (state ?? {}) as { readonly top?: number };
    if (top !== undefined) restoreScroll(top);
  });
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (link === null || !isPlain || event.defaultPrevented || link.target !== "" || link.hasAttribute("download")) return;
    if (!isOurs(new URL(link.href)) || link.getAttribute("href")?.startsWith("#") === true) return;
    event.preventDefault();
    navigate(link.href);
  });
}
