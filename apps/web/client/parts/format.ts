/** Times, durations and numbers as people read them. */

// Written out: each formatter of `Intl` takes milliseconds to make, for which the first paint would wait.

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec"] as const;
const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"] as const;

function padded(value: number, digits = 2): string {
  return String(value).padStart(digits, "0");
}

/** Such as 14:31. */
function minute(at: Date): string {
  return `${padded(at.getHours())}:${padded(at.getMinutes())}`;
}

/** Such as Sun 29 Nov. */
function day(at: Date): string {
  return `${WEEKDAYS[at.getDay()]} ${at.getDate()} ${MONTHS[at.getMonth()]}`;
}

/** Such as UTC+1. */
export function zone(at = new Date()): string {
  const minutes = -at.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? "−" : "+"}${Math.floor(Math.abs(minutes) / 60)}${rest === 0 ? "" : `:${padded(rest)}`}`;
}

export function exactTime(at: Date): string {
  return `${at.getDate()} ${MONTHS[at.getMonth()]} ${at.getFullYear()}, ${clockTime(at)} ${zone(at)}`;
}

/** Such as 14:31:24.190. */
export function clockTime(at: Date): string {
  return `${minute(at)}:${padded(at.getSeconds())}.${padded(at.getMilliseconds(), 3)}`;
}

/** The time of today, or the day and the time. */
export function shortTime(at: Date): string {
  return at.toDateString() === new Date().toDateString() ? minute(at) : `${day(at)}, ${minute(at)}`;
}

/** For the axis of a chart: the time, or the day if it shows several. */
export function axisTime(at: Date, spanMs: number): string {
  return spanMs <= 86_400_000 ? minute(at) : day(at);
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

const UNITS = ["", "K", "M", "B", "T"] as const;

/** Such as 2.1M. */
export function compact(value: number): string {
  let [shown, unit] = [value, 0];
  // What would be rounded up to 1000 has the next unit.
  for (; Math.abs(shown) >= 999.95 && unit < UNITS.length - 1; unit += 1) shown /= 1_000;
  return `${Number(shown.toFixed(1))}${UNITS[unit]}`;
}

/** Such as 12,345.5. */
export function number(value: number): string {
  const [whole = "", part] = String(Number(value.toFixed(3))).split(".");
  return whole.replace(/\B(?=(?:\d{3})+$)/g, ",") + (part === undefined ? "" : `.${part}`);
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
