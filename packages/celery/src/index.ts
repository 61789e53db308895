export { eventChannels, type EventChannels, type EventChannelsOptions } from "./wire/channels.ts";
export { decodeAgain } from "./wire/envelope.ts";
export { compareBytes } from "./python/text.ts";
export { decodeFrame, readBody } from "./wire/decode.ts";
export { decodeEnvelope, encodeEnvelope, openEnvelope, type EventMessage, type OpenedEnvelope } from "./wire/envelope.ts";
export { writeMsgpack } from "./wire/msgpack.ts";
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
} from "./model/event.ts";
export { MAX_ID_LENGTH } from "./model/normalise.ts";
export { MAX_AHEAD_SECONDS, isFuture } from "./model/time.ts";
export {
  REJECT_REASONS,
  type Decoded,
  type Frame,
  type ReadAs,
  type ReadBody,
  type RejectReason,
  type Rejected,
  type UnreadableBody,
} from "./wire/frame.ts";
export { MAX_TIMESTAMP, toMicroseconds } from "./model/time.ts";
export { parsePythonLiteral, type JsonValue, type PythonLiteral } from "./python/literal.ts";
export { isTaskId, readStoredEvent } from "./model/event.ts";
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
} from "./model/task-state.ts";
export { MAX_NAME_LENGTH, MAX_TEXT_LENGTH, cleanText, ownText } from "./python/text.ts";
export type {
  Listened,
  ObservedQueue,
  ObservedUnacked,
  ObservedWorker,
  Observation,
  QueuesObserved,
  WorkersObserved,
} from "./model/observation.ts";
