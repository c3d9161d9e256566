"""Where rays meet the geoms of a scene first."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8

from vla_server_base.scenes.worker.rendering.raycast.rays import Rays


@dataclass(frozen=True, kw_only=True)
class Hits:
    """The geoms that some rays of a camera meet first, their distances, and their outward normals there."""

    rays: Int[np.ndarray, " hits"]
    geoms: Int[np.ndarray, " hits"]
    distances: Float64[np.ndarray, " hits"]
    normals: Float32[np.ndarray, "xyz hits"]


def cast(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    rays: Rays,
    going: Int[np.ndarray, " going"],
    reach: Float64[np.ndarray, " rays"],
    shown: UInt8[np.ndarray, " groups"],
) -> Hits:
    """Return the first geom that each of the rays `going` meets within its reach, among those of the groups `shown`."""
    geoms = np.full(len(going), -1, np.int32)
    distances, normals = np.zeros(len(going)), np.zeros((len(going), 3))
    directions = np.ascontiguousarray(rays.directions.take(going, axis=1).T)
    if rays.share_origin:
        mujoco.mj_multiRay(
            model, data, rays.origins[:, 0], directions.reshape(-1), shown, True, -1,
            geoms, distances, normals.reshape(-1), len(going), mujoco.mjMAXVAL,
        )  # fmt: skip
    else:
        origins = np.ascontiguousarray(rays.origins.take(going, axis=1).T)
        for i, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
            distances[i] = mujoco.mj_ray(model, data, origin, direction, shown, True, -1, geoms[i : i + 1], normals[i])
    met = np.flatnonzero((geoms >= 0) & (distances < reach[going]))
    return Hits(
        rays=going[met],
        geoms=geoms[met],
        distances=distances[met],
        normals=np.ascontiguousarray(normals[met].T, dtype=np.float32),
    )
