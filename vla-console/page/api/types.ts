// The server's wire types, as far as the page uses them; docs/http.md describes each field.

export type Vec3 = [number, number, number];
/** x y z [m], then the quaternion w x y z; world frame, z up. */
export type Pose = [number, number, number, number, number, number, number];
export type PoseFrame = Pose[];

export interface Poses {
  /** Simulated time of each frame [s]. */
  times: number[];
  /** For each time, the pose of each of `pose_bodies`. */
  frames: PoseFrame[];
}

export interface SimulationState {
  qpos: number[];
  qvel: number[];
  ctrl: number[];
  time: number;
}

export interface BodyPose {
  position: Vec3;
  quaternion?: [number, number, number, number];
}

export interface Contact {
  bodies: [string, string];
  force_n: number;
}

export interface Violation {
  kind: "joint" | "velocity" | "workspace" | "contact";
  what: string;
  value: number;
  limit: number;
}

/** What one action did, or is predicted to do. Field names as in the server's MotionReply. */
export interface Motion {
  /** End effector in the robot's base frame [m]. */
  position: Vec3;
  quaternion: [number, number, number, number];
  joint_targets: number[];
  /** Where the gripper was sent: 0 closed, 1 open. */
  gripper: number;
  contacts: Contact[];
  violations: Violation[];
  scale: number;
  poses?: Poses | null;
}

export interface Criterion {
  value: number;
  holds: boolean;
}

/** Milliseconds. */
export interface StepTiming {
  predict: number;
  preview: number;
  physics: number;
  render: number;
  total: number;
}

export interface Robot {
  name: string;
  joints: string[];
  end_effector: string;
  /** Index in body_names of the body in whose frame `position` is. */
  base: number;
  has_gripper: boolean;
}

export interface StartEvent {
  request_id: string;
  scene_id: string;
  scene_compile_ms: number;
  seed: number;
  dataset: string | null;
  notes?: string[] | null;
  state: SimulationState;
  robot: Robot;
  joint_names: string[];
  body_names: string[];
  cameras: Record<string, string>;
  geom_groups: number[];
  unknown_words?: string[] | null;
  images?: Record<string, string> | null;
  pose_bodies?: number[] | null;
  poses?: Poses | null;
  criteria?: Criterion[];
}

export interface StepEvent extends Motion {
  index: number;
  action: number[];
  state: SimulationState;
  success: boolean;
  timing_ms: StepTiming;
  preview?: Motion[] | null;
  chunk?: number[][] | null;
  criteria?: Criterion[];
  images?: Record<string, string> | null;
}

export interface EndEvent {
  reason: "success" | "max_steps" | "rejected" | "stopped";
  num_steps: number;
  success: boolean | null;
  duration_ms: number;
  rejected?: Motion[] | null;
  recordings: Record<string, string>;
}

/** Something that was changed from outside, and what the scene looks like after it. */
export interface ChangeEvent {
  step: number;
  status: EpisodeState;
  pace: Pace;
  instruction?: string;
  bodies?: Record<string, BodyPose>;
  state?: SimulationState;
  poses?: Poses | null;
  images?: Record<string, string> | null;
}

export type EpisodeState = "running" | "paused" | "ended";
export type Pace = "real_time" | "fast";

export type EpisodeEvent =
  | { name: "start"; id: number; data: StartEvent }
  | { name: "step"; id: number; data: StepEvent }
  | { name: "change"; id: number; data: ChangeEvent }
  | { name: "end"; id: number; data: EndEvent }
  | { name: "error"; id: number; data: ErrorReply };

export interface EpisodeStatus {
  episode_id: string;
  status: EpisodeState;
  reason?: EndEvent["reason"] | null;
  pace: Pace;
  instruction: string | null;
  seed: number;
  step: number;
  time: number;
  success: boolean | null;
  scene_id: string;
  changes?: EpisodeChange[];
}

export interface EpisodeCreated {
  episode_id: string;
  status: EpisodeState;
  pace: Pace;
  start: StartEvent;
}

/** A change that a request schedules, or that was made: replays the same. */
export interface EpisodeChange {
  step: number;
  instruction?: string;
  bodies?: Record<string, BodyPose>;
  success?: Success[];
}

export interface EpisodePatch {
  status?: "running" | "paused" | "stopped";
  steps?: number;
  pace?: Pace;
  instruction?: string;
  success?: Success[];
  bodies?: Record<string, BodyPose>;
}

/** A criterion of success as requests take it. */
export type Success = { kind: string } & Record<string, unknown>;

export interface SceneState {
  qpos?: number[];
  qvel?: number[];
  ctrl?: number[];
  keyframe?: string | number;
  bodies?: Record<string, BodyPose>;
}

export type Recording = "webp" | "state_log" | "lerobot";

/** The body of POST /episodes, as far as the page fills it in. */
export interface EpisodeRequest {
  instruction: string;
  scene_id?: string;
  xml_string?: string;
  robot?: string;
  state?: SceneState;
  success?: Success[];
  seed?: number;
  max_steps?: number;
  execution_horizon?: number;
  ensemble_weight?: number;
  latency_ms?: number;
  guard?: "off" | "warn" | "clamp" | "reject";
  preview?: boolean;
  poses?: boolean;
  frames?: "none" | "jpeg" | "png";
  record?: Recording[];
  control?: { rate_hz?: number };
  changes?: EpisodeChange[];
  pace?: Pace;
  paused?: boolean;
}

export interface TaskPreset {
  name: string;
  instruction: string;
  robot: string;
  scene: string;
  success: Success[];
}

export interface TaskTrial {
  instruction: string;
  scene: string;
  state: SceneState;
  success: Success[];
  seed: number;
  max_steps: number;
}

export interface LoadReply {
  status: "healthy" | "loading" | "broken" | "stopping";
  reason?: string | null;
  model: string;
  uptime_s: number;
  queue: { waiting: number; max: number };
  scene_workers: { num: number; busy: number; waiting: number };
  episodes: { running: number; max: number };
  sessions: { num: number; max: number };
  connections: { num: number; max: number };
  watchers: number;
  memory_mb: number;
  /** Over the last 200; null before the first. */
  predict_ms: { p50: number; p95: number } | null;
}

export interface InfoReply {
  model: string;
  model_status: "loaded" | "loading" | "broken";
  reason: string | null;
  weights: "pretrained" | "random" | "none" | null;
  policy: PolicySpec | null;
  renderer: string | null;
  /** What `record` may ask for here. */
  recordings: Recording[];
  versions: Record<string, string>;
}

export interface PolicySpec {
  horizon: number;
  window: number;
  default_dataset: string | null;
  cameras?: { name: string; height: number; width: number }[];
  platform?: string;
  max_instruction_chars: number;
}

export interface SessionStatus {
  id: string;
  execution: string;
  instruction: string | null;
  seed: number;
  step: number;
  idle_s: number;
  is_waiting: boolean;
  client: string;
  /** How its client speaks: `http`, `openpi`, `lerobot` and others. */
  protocol: string;
  steps_per_s: number;
  last_ms: number | null;
}

export interface SessionStep {
  step: number;
  instruction: string | null;
  action: number[];
  actions: number[][];
  action_names: string[];
  dataset: string | null;
  asked_policy: boolean;
  sequence: number | null;
  timing_ms: { queue: number; infer: number; total: number };
  images: Record<string, string>;
  proprio?: number[] | null;
  time: number;
}

export interface ErrorReply {
  error: { code: string; message: string; hint: string };
  request_id: string;
}

/** A server that the page can show: `base` ends with a slash. */
export interface ServerEntry {
  name: string;
  base: string;
}
