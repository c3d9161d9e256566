import type { ComponentChildren, HTMLAttributes } from "preact";

export type Tone = "plain" | "good" | "warn" | "bad" | "accent";

type Props = HTMLAttributes<HTMLSpanElement> & { tone?: Tone; solid?: boolean; children: ComponentChildren };

/** A short fact in a rounded frame; `solid` fills it, as over the scene. */
export function Chip({ tone = "plain", solid = false, children, ...attributes }: Props) {
  return (
    <span class={`chip ${tone}${solid ? " solid" : ""}`} {...attributes}>
      {children}
    </span>
  );
}
