import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

/** A control with its label above it; the label names it for tests and screen readers. */
export function Field({
  label,
  wide = false,
  children,
}: {
  label: string;
  wide?: boolean;
  children: ComponentChildren;
}) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is the child.
    <label class={wide ? "field wide" : "field"}>
      <span>{label}</span>
      {children}
    </label>
  );
}

interface NumberProps {
  label: string;
  value: number | null;
  min: number;
  max: number;
  step?: number;
  /** What an empty field stands for. */
  placeholder?: string;
  onChange(value: number | null): void;
}

/** A bounded number; an empty field is null. */
export function NumberField({ label, value, min, max, step = 1, placeholder, onChange }: NumberProps) {
  // What is being typed stays there when something else on the page changes meanwhile.
  const typed = useSignal<string | null>(null);
  return (
    <Field label={label}>
      <input
        type="number"
        inputMode="decimal"
        min={min}
        max={max}
        step={step}
        value={typed.value ?? value ?? ""}
        placeholder={placeholder}
        onInput={({ currentTarget }) => {
          typed.value = currentTarget.value;
        }}
        onChange={({ currentTarget }) => {
          typed.value = null;
          const given = currentTarget.valueAsNumber;
          const bounded = Number.isNaN(given) ? null : Math.min(Math.max(given, min), max);
          currentTarget.value = bounded === null ? "" : String(bounded);
          onChange(bounded);
        }}
      />
    </Field>
  );
}

interface SelectProps<Value extends string> {
  label: string;
  value: Value;
  options: readonly (readonly [Value, string])[];
  wide?: boolean;
  onChange(value: Value): void;
}

/** A choice; its label stands beside the options, or they would be part of its name. */
export function SelectField<Value extends string>({ label, value, options, wide, onChange }: SelectProps<Value>) {
  const id = useId();
  return (
    <div class={wide ? "field wide" : "field"}>
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={({ currentTarget }) => onChange(currentTarget.value as Value)}>
        {options.map(([option, text]) => (
          <option key={option} value={option} selected={option === value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

interface CheckProps {
  label: string;
  checked: boolean;
  onChange(checked: boolean): void;
}

export function CheckField({ label, checked, onChange }: CheckProps) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked} onChange={({ currentTarget }) => onChange(currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}
