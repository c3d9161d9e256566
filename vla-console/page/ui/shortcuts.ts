// Keyboard shortcuts of the view that is shown; a key that a control needs itself is left to it.

import { useEffect } from "preact/hooks";

export type Shortcuts = Partial<Record<string, () => void>>;

/** Call a function per key (`KeyboardEvent.key`) while the component is shown. */
export function useShortcuts(shortcuts: Shortcuts): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (document.querySelector("dialog[open]") || isTakenBy(event.target, event.key)) return;
      const action = shortcuts[event.key];
      if (action === undefined) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
}

/** Whether the focused control has a use for the key: text for all but Esc, buttons for Enter and space, and so on. */
export function isTakenBy(target: EventTarget | null, key: string): boolean {
  if (key === "Escape" || !(target instanceof Element)) return false;
  if (target.matches("textarea, select, input:not([type=range], [type=checkbox])")) return true;
  if (target.matches("button, a, summary, input[type=checkbox]")) return key === "Enter" || key === " ";
  return target.matches("input[type=range]") && key.startsWith("Arrow");
}
