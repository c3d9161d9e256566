// The place of the 3-D view in the page: its canvas and WebGL renderer, and words in their place where there is none.

import { PCFShadowMap, WebGLRenderer } from "three";
import type { Quality } from "./quality";

const LOST =
  "The browser took the graphics device away from the 3-D view; it comes back by itself, or when the page is reloaded.";
const MISSING =
  "This browser has no WebGL 2, so the scene cannot be shown in 3-D; the cameras, plots and buttons work as ever.";

export class Stage {
  /** Takes the pointer and the keys; stays when the canvas is replaced. */
  readonly element = document.createElement("div");
  renderer: WebGLRenderer | null = null;
  canvas: HTMLCanvasElement | null = null;
  readonly #message = document.createElement("p");
  #pixelRatio = 1;
  readonly #observer: ResizeObserver;
  readonly #onChange: () => void;

  /** `onChange` is called when the size changed or the renderer came back: draw again. */
  constructor(container: HTMLElement, onChange: () => void) {
    this.#onChange = onChange;
    Object.assign(this.element.style, { position: "relative", width: "100%", height: "100%", overflow: "hidden" });
    Object.assign(this.#message.style, {
      position: "absolute",
      inset: "0",
      margin: "auto",
      padding: "24px",
      maxWidth: "44ch",
      height: "fit-content",
      textAlign: "center",
      color: "var(--muted)",
    });
    this.#message.setAttribute("role", "status");
    this.#message.hidden = true;
    this.element.append(this.#message);
    container.append(this.element);
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(this.element);
  }

  get width(): number {
    return this.element.clientWidth;
  }

  get height(): number {
    return this.element.clientHeight;
  }

  /** Begin with a new canvas: antialiasing can only be chosen when it is made. */
  open(quality: Quality): void {
    this.#close();
    const canvas = sceneCanvas();
    try {
      this.renderer = new WebGLRenderer({ canvas, antialias: quality === "high", powerPreference: "high-performance" });
    } catch {
      this.#say(MISSING);
      return;
    }
    this.canvas = canvas;
    this.element.prepend(canvas);
    canvas.addEventListener("webglcontextlost", () => canvas === this.canvas && this.#say(LOST));
    canvas.addEventListener("webglcontextrestored", () => this.#say(null));
    const { renderer } = this;
    this.#pixelRatio = quality === "high" ? Math.min(window.devicePixelRatio, 2) : 1;
    renderer.setPixelRatio(this.#pixelRatio);
    renderer.shadowMap.enabled = quality === "high";
    renderer.shadowMap.type = PCFShadowMap;
    renderer.shadowMap.autoUpdate = false;
    this.#say(null);
    this.#resize();
  }

  /** Draw with a share of the pixels' rows and columns: moving images need fewer. */
  setResolution(share: number): void {
    const ratio = this.#pixelRatio * share;
    if (this.renderer !== null && this.renderer.getPixelRatio() !== ratio) this.renderer.setPixelRatio(ratio);
  }

  dispose(): void {
    this.#observer.disconnect();
    this.#close();
    this.element.remove();
  }

  #resize(): void {
    if (this.width > 0 && this.height > 0) this.renderer?.setSize(this.width, this.height, false);
    this.#onChange();
  }

  #say(sentence: string | null): void {
    this.#message.hidden = sentence === null;
    this.#message.textContent = sentence;
    if (this.canvas !== null) this.canvas.style.visibility = sentence === null ? "visible" : "hidden";
    this.#onChange();
  }

  #close(): void {
    this.renderer?.dispose();
    this.renderer?.forceContextLoss();
    this.canvas?.remove();
    this.renderer = null;
    this.canvas = null;
  }
}

function sceneCanvas(): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  Object.assign(canvas.style, {
    display: "block",
    width: "100%",
    height: "100%",
    outlineColor: "var(--accent)",
    outlineOffset: "-2px",
  });
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Scene in 3-D");
  canvas.setAttribute(
    "aria-description",
    "Drag to turn the view, scroll or pinch to zoom. Click an object to select it, then drag it, " +
      "or move it with the arrow keys, Page Up and Page Down, and turn it with the comma and the full stop.",
  );
  return canvas;
}
