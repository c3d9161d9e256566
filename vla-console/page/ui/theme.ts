// Dark or light: the visitor's choice, kept; until then the system's.

import { effect, signal } from "@preact/signals";

export type Theme = "dark" | "light";

const KEY = "vla-console.theme";

export const theme = signal<Theme>(firstTheme());

/** Flip between dark and light, and remember it. */
export function toggleTheme(): void {
  theme.value = theme.value === "dark" ? "light" : "dark";
  localStorage.setItem(KEY, theme.value);
}

/** Keep the document's colours with the theme. */
export function applyTheme(): () => void {
  return effect(() => {
    document.documentElement.dataset.theme = theme.value;
  });
}

/** Return a colour of the theme, as a canvas needs it: `color("--x")`. */
export function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function firstTheme(): Theme {
  if (typeof localStorage === "undefined") return "dark";
  const kept = localStorage.getItem(KEY);
  if (kept === "dark" || kept === "light") return kept;
  return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
}
