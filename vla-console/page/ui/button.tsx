import type { ButtonHTMLAttributes, ComponentChildren } from "preact";

type Props = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "icon" | "label"> & {
  /** The accessible name; also the text unless the button shows only its icon. */
  label: string;
  icon?: ComponentChildren;
  kind?: "plain" | "primary" | "quiet";
  iconOnly?: boolean;
};

export function Button({ label, icon, kind = "plain", iconOnly = false, ...attributes }: Props) {
  return (
    <button
      type="button"
      class={`button ${kind}${iconOnly ? " icon-only" : ""}`}
      aria-label={iconOnly ? label : undefined}
      title={iconOnly ? label : undefined}
      {...attributes}
    >
      {icon}
      {!iconOnly && <span>{label}</span>}
    </button>
  );
}
