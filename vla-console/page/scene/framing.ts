// Where the camera stands at first: in front of the robot, a little to its side and above, with everything that moves in sight.

import { MathUtils, Matrix4, Vector3 } from "three";

export interface Viewpoint {
  position: Vector3;
  target: Vector3;
}

const AROUND = MathUtils.degToRad(-40);
const ABOVE = MathUtils.degToRad(27);
/** The parts of the half view to each side, above and below that may be filled; below lies the instruction. */
const FILL = { side: 0.86, above: 0.84, below: 0.68 };

/**
 * The nearest viewpoint that shows all `points`.
 *
 * `facing` is the horizontal direction in which the robot looks, so that it stands behind its objects;
 * `verticalFov` is in degrees, `aspect` is width over height.
 */
export function framePoints(points: Vector3[], facing: Vector3, verticalFov: number, aspect: number): Viewpoint {
  const toView = viewAxes(facing);
  const seen = points.map((point) => point.clone().applyMatrix4(toView));
  const slope = Math.tan(MathUtils.degToRad(verticalFov) / 2);
  const width = slope * aspect * FILL.side;
  const horizontal = between(
    seen.map(({ x, z }) => [x, z]),
    width,
    width,
  );
  const vertical = between(
    seen.map(({ y, z }) => [y, z]),
    slope * FILL.above,
    slope * FILL.below,
  );
  const back = Math.max(horizontal.back, vertical.back);
  const eye = new Vector3(horizontal.across(back), vertical.across(back), back);
  const depth = seen.reduce((sum, { z }) => sum + z, 0) / seen.length;
  const toWorld = toView.clone().transpose();
  return { position: eye.clone().applyMatrix4(toWorld), target: eye.setZ(depth).applyMatrix4(toWorld) };
}

/** The rotation from the world to axes right, up and back of a camera that looks at the robot's front. */
function viewAxes(facing: Vector3): Matrix4 {
  const up = new Vector3(0, 0, 1);
  const back = new Vector3(facing.x, facing.y, 0).normalize().applyAxisAngle(up, AROUND);
  back.multiplyScalar(Math.cos(ABOVE)).addScaledVector(up, Math.sin(ABOVE));
  const right = new Vector3().crossVectors(up, back).normalize();
  return new Matrix4().makeBasis(right, new Vector3().crossVectors(back, right), back).transpose();
}

/** How far back an eye must be to see all points (across, back) between two slopes, and where across it may then be. */
function between(points: [number, number][], slopeOver: number, slopeUnder: number) {
  const over = Math.max(...points.map(([across, back]) => across + slopeOver * back));
  const under = Math.max(...points.map(([across, back]) => slopeUnder * back - across));
  return {
    back: (over + under) / (slopeOver + slopeUnder),
    across: (back: number) => (over - slopeOver * back + slopeUnder * back - under) / 2,
  };
}

/** The vertical field of view [deg] with which a view of another shape shows the whole image of a camera. */
export function fitFov(verticalFov: number, cameraAspect: number, viewAspect: number): number {
  if (viewAspect >= cameraAspect) return verticalFov;
  const halfHeight = Math.tan(MathUtils.degToRad(verticalFov) / 2);
  return 2 * MathUtils.radToDeg(Math.atan((halfHeight * cameraAspect) / viewAspect));
}
