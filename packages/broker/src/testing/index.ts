export { describeEventSource, type EventSourceHarness } from "./contract.ts";
export { Recorder } from "./recorder.ts";
