export { eventChannels, type EventChannels, type EventChannelsOptions } from "./channels.ts";
export { decodeAgain } from "./decode-again.ts";
export { compareBytes } from "./compare-bytes.ts";
export { decodeFrame } from "./decode.ts";
export { decodeEnvelope } from "./envelope.ts";
export {
  TASK_EVENT_TYPES,
  isTaskEvent,
  type CeleryEvent,
  type EventType,
  type OtherEvent,
  type TaskDescription,
  type TaskEvent,
  type TaskEventType,
  type TaskFailed,
  type TaskReceived,
  type TaskRejected,
  type TaskRetried,
  type TaskRevoked,
  type TaskSent,
  type TaskStarted,
  type TaskSucceeded,
  type WorkerEvent,
} from "./event.ts";
export { MAX_ID_LENGTH } from "./fields.ts";
export { MAX_AHEAD_SECONDS, isFuture } from "./future.ts";
export type { Decoded, Frame, ReadAs, RejectReason, Rejected } from "./frame.ts";
export { MAX_TIMESTAMP, toMicroseconds } from "./microseconds.ts";
export { parsePythonLiteral, type JsonValue, type PythonLiteral } from "./python-literal.ts";
export { isTaskId, readStoredEvent } from "./stored-event.ts";
export {
  EXIT_YIELDS_SECONDS,
  PRECEDENCE,
  STATE_RANK,
  isFinal,
  orderingTimestamp,
  precedenceOf,
  reportsExit,
  stateOf,
  type Precedence,
  type TaskState,
} from "./task-state.ts";
export { MAX_NAME_LENGTH, MAX_TEXT_LENGTH, cleanText, ownText } from "./text.ts";
