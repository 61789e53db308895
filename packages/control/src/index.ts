export { Control, type Answers, type AskOptions, type ControlOptions } from "./control.ts";
export type { Serializer, Unreadable } from "./message.ts";
