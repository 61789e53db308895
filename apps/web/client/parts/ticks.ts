/** Where the lines of a chart are. */

/** Steps of time that people count in: of seconds, minutes, hours and days. */
const STEPS_OF_TIME = [
  ...[1, 60].flatMap((unit) => [1, 2, 5, 10, 15, 30].map((count) => count * unit)),
  ...[1, 2, 3, 6, 12].map((hours) => hours * 3_600),
];
const DAY = 86_400;

function roundStep(raw: number): number {
  const size = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 2.5, 5, 10].find((factor) => factor * size >= raw) ?? 10) * size;
}

function stepOfTime(raw: number): number {
  if (raw < 1) return roundStep(raw);
  return STEPS_OF_TIME.find((step) => step >= raw) ?? roundStep(raw / DAY) * DAY;
}

/** Round numbers from 0 to one that is not less than `value`, with about as many steps between them as `lines`. @param isTime whether they are seconds. */
export function ticksOf(value: number, lines: number, isTime = false): number[] {
  const raw = (value <= 0 ? 1 : value) / lines;
  const step = isTime ? stepOfTime(raw) : roundStep(raw);
  return Array.from({ length: Math.max(1, Math.ceil(value / step)) + 1 }, (_, index) => index * step);
}
