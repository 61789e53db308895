/** The name of the program, as users type it. */
export const PROGRAM = "celery-metrics-exporter";
