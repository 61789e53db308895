/** Values and tracebacks of Python. Everything here was written by others, and is only ever shown as text. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { ExactNumber } from "../api/exact.ts";
import { Copy } from "./say.tsx";

/** Longer values get a line for each part. */
const LINE = 64;

/** A value as Python writes it. */
function toPython(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (value instanceof ExactNumber) return value.text;
  if (typeof value === "string") return `'${value.replace(/[\\'\n\r\t]/g, (found) => ESCAPES[found] ?? found)}'`;
  if (Array.isArray(value)) return `[${value.map(toPython).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value)
      .map(([key, each]) => `${toPython(key)}: ${toPython(each)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function draw(value: unknown, indent: string): ComponentChildren {
  if (typeof value === "string") return <span class="v">{toPython(value)}</span>;
  if (typeof value !== "object" || value === null || value instanceof ExactNumber) return <span class="d">{toPython(value)}</span>;
  const isList = Array.isArray(value);
  const parts: readonly (readonly [string, unknown])[] = isList
    ? value.map((each, index) => [String(index), each] as const)
    : Object.entries(value);
  const [open, close] = isList ? ["[", "]"] : ["{", "}"];
  if (toPython(value).length <= LINE) {
    return (
      <>
        {open}
        {parts.map(([key, each], index) => (
          <>
            {index > 0 && ", "}
            {!isList && <span class="k">{key}</span>}
            {!isList && ": "}
            {draw(each, indent)}
          </>
        ))}
        {close}
      </>
    );
  }
  return (
    <>
      {isList && <span class="c">list of {parts.length}</span>}
      {lines(parts, `${indent}  `)}
    </>
  );
}

function lines(parts: readonly (readonly [string, unknown])[], indent: string, first = "\n"): ComponentChildren {
  return parts.map(([key, each], index) => (
    <>
      {index === 0 ? first : "\n"}
      {indent}
      <span class="k">{key}</span>: {draw(each, indent)}
    </>
  ));
}

/** Arguments, one a line. */
export function Arguments({ value, label }: { readonly value: unknown; readonly label: string }): JSX.Element {
  const parts = Array.isArray(value) ? value.map((each, index) => [String(index), each as unknown] as const) : Object.entries(value ?? {});
  return (
    <pre class="wrap" tabIndex={0} role="group" aria-label={label}>
      {parts.length === 0 ? (Array.isArray(value) ? "()" : "{}") : lines(parts, "", "")}
    </pre>
  );
}

/** A frame in somebody else's code. */
const LIBRARY = /^\s*File ".*(?:site-packages|dist-packages|lib\/python3)/;
const FRAME = /^(\s*)File "(.*)", line (\d+), in (.*)$/;

/** The lines of each frame together; what is not in a frame is on its own. */
function framesOf(text: string): readonly (readonly string[])[] {
  const frames: string[][] = [];
  for (const line of text.replace(/\n$/, "").split("\n")) {
    const last = frames.at(-1);
    const belongs = last !== undefined && FRAME.test(last[0] ?? "") && /^ {4}/.test(line);
    if (belongs) last.push(line);
    else frames.push([line]);
  }
  return frames;
}

export function Traceback({ text }: { readonly text: string }): JSX.Element {
  const [withLibraries, setWithLibraries] = useState(false);
  const frames = framesOf(text);
  const libraries = frames.filter(([first = ""]) => LIBRARY.test(first)).length;
  const hides = libraries > 0 && libraries < frames.filter(([first = ""]) => FRAME.test(first)).length;
  const shown = hides && !withLibraries ? frames.filter(([first = ""]) => !LIBRARY.test(first)) : frames;
  return (
    <>
      <pre tabIndex={0} role="group" aria-label="Traceback">
        {shown.map((frame, index) => (
          <>
            {index > 0 && "\n"}
            <Frame lines={frame} isLast={index === shown.length - 1} />
          </>
        ))}
      </pre>
      <div class="row">
        <Copy text={text} label="Copy the traceback" word="Copy traceback" />
        {hides && (
          <button class="btn sm ghost" type="button" aria-pressed={withLibraries} onClick={() => setWithLibraries(!withLibraries)}>
            {withLibraries ? "Hide" : "Show"} {libraries} {libraries === 1 ? "frame" : "frames"} of libraries
          </button>
        )}
      </div>
    </>
  );
}

function Frame({ lines: [first = "", ...rest], isLast }: { readonly lines: readonly string[]; readonly isLast: boolean }): JSX.Element {
  const [, indent, file, line, name] = FRAME.exec(first) ?? [];
  if (file === undefined) {
    const colon = first.indexOf(":");
    if (isLast && colon > 0) {
      return (
        <>
          <span class="e">{first.slice(0, colon)}</span>
          {first.slice(colon)}
        </>
      );
    }
    return first.startsWith("Traceback") ? <b>{first}</b> : <>{first}</>;
  }
  const isOurs = !LIBRARY.test(first);
  return (
    <>
      {indent}
      <span class="c">File </span>
      <span class="v">"{file}"</span>
      <span class="c">, line </span>
      <span class={isOurs ? "d" : "c"}>{line}</span>
      <span class="c">, in </span>
      {isOurs ? <b>{name}</b> : name}
      {rest.map((each, index) => (
        <>
          {"\n"}
          {isOurs && index === 0 ? <b>{each}</b> : each}
        </>
      ))}
    </>
  );
}
