/** Actions on tasks and workers. They stand where they will be, and say why they are off. */
import type { JSX } from "preact";
import { Icon, type IconName } from "./icon.tsx";

export const CONTROL_IS_OFF = "This version only reads: it sends nothing to workers.";

export interface ActionProps {
  readonly icon: IconName;
  readonly name: string;
  readonly small?: boolean;
}

/** Stays focusable, so that everyone can find out why it is off. */
export function Action({ icon, name, small = false }: ActionProps): JSX.Element {
  return (
    <button class={small ? "btn sm" : "btn"} type="button" aria-disabled="true" aria-describedby="control-off" title={CONTROL_IS_OFF}>
      <Icon name={icon} />
      {name}
    </button>
  );
}

export function WhyOff(): JSX.Element {
  return <p id="control-off">{CONTROL_IS_OFF}</p>;
}
