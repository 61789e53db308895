/** What a page says when something is missing, late, wrong or still loading. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { isTemporary } from "../api/ask.ts";
import type { Query } from "../api/query.ts";
import { Icon, type IconName } from "./icon.tsx";
import { shortTime } from "./format.ts";

export interface EmptyProps {
  readonly icon: IconName;
  readonly title: string;
  readonly children?: ComponentChildren;
}

export function Empty({ icon, title, children }: EmptyProps): JSX.Element {
  return (
    <div class="empty">
      <Icon name={icon} />
      <strong>{title}</strong>
      {children}
    </div>
  );
}

export interface CallProps {
  readonly tone: "fail" | "retry" | "lost";
  readonly icon: IconName;
  readonly title?: string;
  readonly children?: ComponentChildren;
}

export function Call({ tone, icon, title, children }: CallProps): JSX.Element {
  return (
    <div class={`call ${tone}`}>
      <Icon name={icon} />
      {title !== undefined && <b>{title}</b>}
      {children !== undefined && <p>{children}</p>}
    </div>
  );
}

const PATIENCE_MS = 300;

/** Appears only if loading takes longer than people notice. */
export function Loading({ rows = 6 }: { readonly rows?: number }): JSX.Element {
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="pad stack loading" role="status" aria-label="Loading">
      {isLate && Array.from({ length: rows }, (_, index) => <div key={index} class={`skel ${["", "h", "", "q"][index % 4]}`} />)}
    </div>
  );
}

/** Why there is no newer answer. What is on the page stays. */
export function Failing({
  query: { error, data, at, ask },
}: {
  readonly query: Pick<Query<unknown>, "error" | "data" | "at" | "ask">;
}): JSX.Element | null {
  if (error === undefined) return null;
  return (
    <div role="alert">
      <Call tone="fail" icon="warn" title={error.message}>
        {data !== undefined && <>What you see is of {shortTime(new Date(at))}. </>}
        {isTemporary(error) && (
          <>
            Trying again every 5 s.{" "}
            <button class="link" type="button" onClick={ask}>
              Try now
            </button>
          </>
        )}
      </Call>
    </div>
  );
}

export interface SettingProps {
  readonly children: string;
  /** What follows it must not begin a line. */
  readonly then?: "," | ".";
}

/** A setting that cures something, ready to copy. */
export function Setting({ children, then }: SettingProps): JSX.Element {
  return (
    <span class="setting">
      <code class="set">{children}</code>
      <Copy text={children} label={`Copy ${children}`} />
      {then}
    </span>
  );
}

export interface CopyProps {
  readonly text: string;
  readonly label: string;
  /** A word beside the icon. */
  readonly word?: string;
}

export function Copy({ text, label, word }: CopyProps): JSX.Element {
  const [isDone, setDone] = useState(false);
  const copy = async (): Promise<void> => {
    await copyText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1_500);
  };
  return (
    <button
      class={word === undefined ? "btn ghost sm icon" : "btn sm"}
      type="button"
      aria-label={word === undefined ? (isDone ? "Copied" : label) : undefined}
      onClick={() => void copy()}
    >
      <Icon name={isDone ? "success" : "copy"} />
      {word !== undefined && (isDone ? "Copied" : word)}
    </button>
  );
}

/** `navigator.clipboard` exists only with HTTPS and on localhost. */
async function copyText(text: string): Promise<void> {
  if (window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
