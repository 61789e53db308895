/** Celery's own name for its `event_exchange`. */
export const DEFAULT_EXCHANGE = "celeryev";
