// What the rest of the page knows of the 3-D view.

import type { Pose, PoseFrame, Vec3 } from "../api/types";

export interface SceneBody {
  id: number;
  name: string;
  parent: number;
  /** It has a free joint: it can be dragged. */
  isFree: boolean;
  isStatic: boolean;
}

export interface SceneInfo {
  sceneId: string;
  bodies: SceneBody[];
  /** Names of the scene's cameras: the view can be taken from one. */
  cameras: string[];
}

/** A body that touches something, or that violates a bound. */
export interface Mark {
  body: string;
  kind: "contact" | "violation";
}

export interface ViewerOptions {
  theme: "dark" | "light";
  /** "auto" is low on software WebGL: no shadows, Lambert, no antialiasing. */
  quality: "auto" | "high" | "low";
  /** The user clicked a free body, or nothing (null). */
  onSelect(body: string | null): void;
  /** The user is moving the selected body; `isFinal` when it is let go. */
  onMove(body: string, position: Vec3, quaternion: [number, number, number, number], isFinal: boolean): void;
}

/** A 3-D view of one scene that draws only when something changed. */
export interface Viewer {
  /** Show a scene (binary glTF of POST /scenes/geometry) in the place of the last one. */
  load(glb: ArrayBuffer): Promise<SceneInfo>;
  /** Place the bodies: `frame` has a pose for each of `poseBodies` (ids), in the world's frame. */
  setPoses(poseBodies: number[], frame: PoseFrame): void;
  /** The present pose of a body. */
  pose(body: string): Pose | null;
  /** Where on the page a body's origin is seen [px]; null when it is out of sight behind the eye. */
  onPage(body: string): { x: number; y: number } | null;
  /** Draw the end effector's predicted path as a tube that fades with time; null removes it. */
  setPath(points: Vec3[] | null): void;
  /** Draw the moving bodies once more, translucent, where the chunk is predicted to end; null removes it. */
  setGhost(poseBodies: number[], frame: PoseFrame | null): void;
  /** Mark where bodies touch or a bound is violated; an empty list removes the marks. */
  setMarks(marks: Mark[]): void;
  /** Whether free bodies can be clicked and dragged. */
  setEditable(isEditable: boolean): void;
  select(body: string | null): void;
  /** Move the selected body by a small step [m], as the phone's buttons do. */
  nudge(delta: Vec3): void;
  /** Look from one of the scene's cameras, or from the default viewpoint (null), orbiting from there. */
  lookFrom(camera: string | null): void;
  setTheme(theme: "dark" | "light"): void;
  setQuality(quality: ViewerOptions["quality"]): void;
  readonly quality: "high" | "low";
  readonly framesDrawn: number;
  dispose(): void;
}
