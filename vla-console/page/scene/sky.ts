// The scene's own sky, much as the policy's cameras see it: its colours above, at the horizon and below.

import {
  Color,
  DataTexture,
  EquirectangularReflectionMapping,
  LinearFilter,
  SRGBColorSpace,
  type Texture,
} from "three";

type Rgb = [number, number, number];

export interface Skybox {
  up: Rgb;
  horizon: Rgb;
  down: Rgb;
}

const NUM_ROWS = 64;

/** Return the sky of a scene's `extras.skybox`; null where the scene has none. */
export function skyOf(skybox: Partial<Skybox> | undefined): Texture | null {
  const { up, horizon, down } = skybox ?? {};
  if (up === undefined || horizon === undefined || down === undefined) return null;
  const texture = new DataTexture(skyRows({ up, horizon, down }), 1, NUM_ROWS);
  texture.mapping = EquirectangularReflectionMapping;
  texture.colorSpace = SRGBColorSpace;
  texture.magFilter = texture.minFilter = LinearFilter;
  texture.needsUpdate = true;
  return texture;
}

/** Return one RGBA pixel a row, from straight down to straight up. */
export function skyRows({ up, horizon, down }: Skybox): Uint8Array<ArrayBuffer> {
  const rows = new Uint8Array(4 * NUM_ROWS);
  for (let row = 0; row < NUM_ROWS; row++) {
    const height = (2 * row) / (NUM_ROWS - 1) - 1;
    const color = new Color(...horizon).lerp(new Color(...(height < 0 ? down : up)), Math.abs(height));
    rows.set([...color.toArray().map((part) => Math.round(255 * part)), 255], 4 * row);
  }
  return rows;
}
