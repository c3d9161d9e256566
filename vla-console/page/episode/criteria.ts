// Success criteria in words: what has to hold, and the value that it is judged by.

import type { Success, TaskPreset } from "../api/types";

const UNITS: Record<string, string> = {
  height: "m",
  along: "m",
  distance: "m",
  horizontal_distance: "m",
  above: "m",
  contact: "N",
};

/** Return the preset that an instruction is, whatever its capitals and outer spaces. */
export function presetOf(instruction: string, presets: readonly TaskPreset[]): TaskPreset | undefined {
  const text = instruction.trim().toLowerCase();
  return presets.find((preset) => preset.instruction.toLowerCase() === text);
}

/** Return what has to hold, such as "red_cube lifted by 0.05 m". */
export function describe(success: Success): string {
  const { kind } = success;
  if (kind === "lifted") return `${success.body} lifted by ${success.height_m ?? 0.05} m`;
  if (kind === "near") return `${listed(success.bodies)} within ${success.distance_m ?? 0.05} m`;
  if (kind === "in_contact") return `${listed(success.bodies)} touch`;
  if (kind === "joint_range") return `${success.joint} ${range(success, "")}`;
  if (kind === "measured") {
    const measure = String(success.measure);
    const since = success.since_start ? " since the start" : "";
    const unit = UNITS[measure] ?? "";
    return `${measureName(success)} ${range(success, unit)}${since}`;
  }
  return kind;
}

/** Return the unit of a criterion's value; "" where it depends on the joint. */
export function unitOf({ kind, measure }: Success): string {
  if (kind === "lifted" || kind === "near") return "m";
  if (kind === "in_contact") return "N";
  return kind === "measured" ? (UNITS[String(measure)] ?? "") : "";
}

function measureName({ measure, names, direction }: Success): string {
  const [first, second] = Array.isArray(names) ? names : [];
  if (measure === "along") return `${first} along ${axisName(direction)}`;
  if (measure === "above") return `${first} above ${second}`;
  if (measure === "contact") return `contact of ${listed(names)}`;
  if (measure === "distance") return `distance of ${listed(names)}`;
  if (measure === "horizontal_distance") return `horizontal distance of ${listed(names)}`;
  return `${measure} of ${listed(names)}`;
}

function axisName(direction: unknown): string {
  const axes = ["x", "y", "z"];
  const parts = Array.isArray(direction) ? direction.map(Number) : [];
  const index = parts.findIndex((part) => Math.abs(part) === 1);
  return index < 0 ? `(${parts.join(", ")})` : `${(parts[index] ?? 0) < 0 ? "−" : "+"}${axes[index]}`;
}

function range({ low, high }: Success, unit: string): string {
  const end = unit ? ` ${unit}` : "";
  const [least, most] = [low, high].map((bound) => (typeof bound === "number" ? Number(bound.toPrecision(3)) : null));
  if (least !== null && most !== null) return `${least} to ${most}${end}`;
  if (least !== null) return `≥ ${least}${end}`;
  return most === null ? "" : `≤ ${most}${end}`;
}

function listed(names: unknown): string {
  return Array.isArray(names) ? names.join(" and ") : String(names);
}
