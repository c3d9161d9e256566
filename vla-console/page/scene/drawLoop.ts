// Draws on demand: nothing runs while nothing changes, and a frame that fails does not stop the next one.

type Schedule = (frame: (nowMs: number) => void) => number;

export class DrawLoop {
  framesDrawn = 0;
  /** The least time between two frames [ms]. */
  minIntervalMs = 0;
  /** A frame within this time after another is one of a motion; after the last one, a still frame is drawn. 0: all are still. */
  settleMs = 0;
  #scheduled: number | null = null;
  #settling: ReturnType<typeof setTimeout> | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;
  readonly #draw: (isMoving: boolean) => boolean;
  readonly #schedule: Schedule;

  /** `draw` says whether there was anything to draw on. */
  constructor(draw: (isMoving: boolean) => boolean, schedule: Schedule = (frame) => requestAnimationFrame(frame)) {
    this.#draw = draw;
    this.#schedule = schedule;
  }

  /** Ask for a frame; any number of requests before it make one frame. */
  request(): void {
    this.#scheduled ??= this.#schedule(this.#frame);
  }

  stop(): void {
    if (this.#scheduled !== null) cancelAnimationFrame(this.#scheduled);
    clearTimeout(this.#settling);
    this.#scheduled = null;
  }

  readonly #frame = (nowMs: number): void => {
    this.#scheduled = null;
    const elapsedMs = nowMs - this.#lastMs;
    if (elapsedMs < this.minIntervalMs) {
      this.request();
      return;
    }
    const isMoving = elapsedMs < this.settleMs;
    clearTimeout(this.#settling);
    if (isMoving) this.#settling = setTimeout(() => this.request(), this.settleMs);
    this.#lastMs = nowMs;
    try {
      if (this.#draw(isMoving)) this.framesDrawn += 1;
    } catch (error) {
      console.error("A frame of the 3-D view failed:", error);
    }
  };
}
