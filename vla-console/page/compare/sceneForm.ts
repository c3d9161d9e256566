// Whether the sides are shown in 3-D or by the policy's cameras: two 3-D views are too much for a phone or software WebGL.

import { signal } from "@preact/signals";
import { chooseQuality, webglRendererName } from "../scene/quality";
import type { ViewerOptions } from "../scene/viewer";

/** As the style sheets have it. */
export const PHONE = "(max-width: 720px)";

export const in3d = signal(startsIn3d());

/** Return the quality that the page's address asks for: `?quality=low`. */
export function quality(): ViewerOptions["quality"] {
  const given = new URLSearchParams(location.search).get("quality");
  return given === "high" || given === "low" ? given : "auto";
}

function startsIn3d(): boolean {
  if (typeof document === "undefined" || matchMedia(PHONE).matches) return false;
  return chooseQuality(quality(), webglRendererName()) === "high";
}
