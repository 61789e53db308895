/** Times, durations and numbers as people read them. */

/** Each of these takes milliseconds to make, which the first paint need not wait for. */
function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

const exact = once(() => new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" }));
const clock = once(() => new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" }));
const minute = once(() => new Intl.DateTimeFormat("en-GB", { timeStyle: "short" }));
const day = once(() => new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" }));
const grouped = once(() => new Intl.NumberFormat("en-US"));

/** Such as UTC+1. */
export function zone(at = new Date()): string {
  const minutes = -at.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? "−" : "+"}${Math.floor(Math.abs(minutes) / 60)}${rest === 0 ? "" : `:${String(rest).padStart(2, "0")}`}`;
}

function milliseconds(at: Date): string {
  return String(at.getMilliseconds()).padStart(3, "0");
}

export function exactTime(at: Date): string {
  return `${exact().format(at)}.${milliseconds(at)} ${zone(at)}`;
}

/** Such as 14:31:24.190. */
export function clockTime(at: Date): string {
  return `${clock().format(at)}.${milliseconds(at)}`;
}

/** The time of today, or the day and the time. */
export function shortTime(at: Date): string {
  return at.toDateString() === new Date().toDateString() ? minute().format(at) : `${day().format(at)}, ${minute().format(at)}`;
}

/** For the axis of a chart: the time, or the day if it shows several. */
export function axisTime(at: Date, spanMs: number): string {
  return spanMs <= 86_400_000 ? minute().format(at) : day().format(at);
}

/** A length of time with the precision that people need: 18 ms, 2.9 s, 6 min 12 s, 1 h 30 min, 3 d. */
export function duration(seconds: number): string {
  const size = Math.abs(seconds);
  const minus = seconds < 0 ? "−" : "";
  if (size < 0.9995) return `${minus}${size < 0.01 ? Number((size * 1_000).toFixed(1)) : Math.round(size * 1_000)} ms`;
  if (size < 59.95) return `${minus}${size < 10 ? Number(size.toFixed(1)) : Math.round(size)} s`;
  const whole = Math.round(size);
  const parts = (large: number, first: string, small: number, second: string): string =>
    small === 0 ? `${minus}${large} ${first}` : `${minus}${large} ${first} ${small} ${second}`;
  if (whole < 3_600) return parts(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return parts(Math.floor(whole / 3_600), "h", Math.floor((whole % 3_600) / 60), "min");
  return parts(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3_600), "h");
}

const short = once(() => new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 }));

/** Such as 2.1M. */
export function compact(value: number): string {
  return short().format(value);
}

export function number(value: number): string {
  return grouped().format(value);
}

/** With decimals only where they tell something. */
export function rate(value: number): string {
  if (value > 0 && value < 0.005) return "< 0.01";
  return number(value < 10 ? Number(value.toFixed(value < 1 ? 2 : 1)) : Math.round(value));
}

/** A share, with decimals only where they tell something. */
export function percent(share: number): string {
  const value = share * 100;
  return `${value > 0 && value < 0.005 ? "< 0.01" : Number(value.toFixed(value < 0.1 ? 2 : 1))} %`;
}

/** Such as 5 min. */
export function ago(lengthMs: number): string {
  const seconds = lengthMs / 1_000;
  const [value, unit] =
    seconds < 60
      ? [seconds, "s"]
      : seconds < 5_400
        ? [seconds / 60, "min"]
        : seconds < 129_600
          ? [seconds / 3_600, "h"]
          : [seconds / 86_400, "d"];
  return `${Math.round(value)} ${unit}`;
}
