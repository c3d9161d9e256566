"""Surfaces are lit by OpenGL's fixed lighting model."""

from dataclasses import replace

import numpy as np
import pytest

from vla_server_base.scenes.worker.rendering.raycast.shading import Light, Surfaces, shade

EYE = np.array([0.0, 0.0, 5.0])


def vector(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


DARK = vector(0, 0, 0)
SUN = Light(
    position=DARK,
    direction=vector(0, 0, -1),
    ambient=DARK,
    diffuse=vector(0.8, 0.8, 0.8),
    specular=DARK,
    attenuation=None,
    cutoff_degrees=180,
    exponent=0,
)
LAMP = replace(SUN, position=vector(0, 0, 2), attenuation=vector(1, 0, 0), cutoff_degrees=45.0)


def surface(normal=(0, 0, 1), point=(0, 0, 0), **rest) -> Surfaces:
    values = {"rgb": (1, 0.5, 0), "emission": 0, "specular": 0, "shininess": 0.5, **rest}
    return Surfaces(
        points=vector(*point)[:, None],
        normals=vector(*normal)[:, None],
        rgb=vector(*values["rgb"])[:, None],
        **{name: vector(values[name]) for name in ("emission", "specular", "shininess")},
    )


def colour(of: Surfaces, *lights: Light) -> list[float]:
    return shade(of, lights, EYE)[:, 0].tolist()


def test_a_surface_that_faces_the_light_has_its_colour_times_the_lights():
    assert colour(surface(), SUN) == pytest.approx([0.8, 0.4, 0])


def test_a_slanted_surface_gets_less_and_one_that_is_turned_away_nothing():
    half = np.sqrt(0.5)
    assert colour(surface((half, 0, half)), SUN) == pytest.approx([0.8 * half, 0.4 * half, 0])
    assert colour(surface((0, 0, -1)), SUN) == [0, 0, 0]


def test_lights_add_up_and_colours_end_at_one():
    dim = replace(SUN, diffuse=vector(0.2, 0.2, 0.2))
    assert colour(surface(), dim, dim) == pytest.approx([0.4, 0.2, 0])
    assert colour(surface(), SUN, SUN) == pytest.approx([1, 0.8, 0])


def test_ambient_light_and_emission_need_no_direction():
    ambient = replace(SUN, diffuse=DARK, ambient=vector(0.3, 0.3, 0.3))
    assert colour(surface((0, 0, -1)), ambient) == pytest.approx([0.3, 0.15, 0])
    assert colour(surface(emission=0.5)) == pytest.approx([0.5, 0.25, 0])


def test_a_shiny_surface_reflects_the_lights_own_colour_towards_the_eye():
    white = replace(SUN, diffuse=DARK, specular=vector(0, 0, 1))
    assert colour(surface(specular=0.6), white) == pytest.approx([0, 0, 0.6])
    away = colour(surface((0.6, 0, 0.8), specular=0.6), white)
    assert away[2] < 0.01


@pytest.mark.parametrize(("x", "is_lit"), [(0.0, True), (1.9, True), (2.1, False)])
def test_a_spot_lights_what_is_inside_its_cone(x, is_lit):
    assert (colour(surface(point=(x, 0, 0)), LAMP)[0] > 0) == is_lit


def test_a_lamp_fades_with_its_distance():
    quadratic = replace(LAMP, attenuation=vector(0, 0, 1))
    near, far = (colour(surface(point=(0, 0, z)), quadratic)[0] for z in (0.0, -2.0))
    assert near == pytest.approx(0.8 / 4)
    assert far == pytest.approx(0.8 / 16)
