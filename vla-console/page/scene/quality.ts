// How much the view may cost: a GPU draws shadows at the screen's full resolution, software WebGL the least that reads well.

import type { ViewerOptions } from "./viewer";

export type Quality = "high" | "low";

const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** Choose the quality for a WebGL renderer of this name; null means that there is no WebGL. */
export function chooseQuality(requested: ViewerOptions["quality"], rendererName: string | null): Quality {
  if (requested !== "auto") return requested;
  return rendererName === null || SOFTWARE.test(rendererName) ? "low" : "high";
}

/** The name of the browser's WebGL renderer, or null where there is no WebGL. */
export function webglRendererName(): string | null {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (gl === null) return null;
  const extension = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(extension?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return String(name);
}
