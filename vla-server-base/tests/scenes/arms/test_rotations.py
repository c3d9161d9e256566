"""Quaternions and rotation vectors obey the laws of rotations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_server_base.scenes.worker.arms.rotations import (
    product,
    quaternion_from_matrix,
    quaternion_from_rpy,
    quaternion_from_vector,
    rotate,
    rotation_between,
    shortened,
)

VECTORS = st.lists(st.floats(-2, 2), min_size=3, max_size=3).map(np.array)
TURNS = VECTORS.map(quaternion_from_vector)
X, Y, Z = np.eye(3)


def is_same_turn(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(abs(abs(one @ other) - 1) < 1e-9)


@given(TURNS, TURNS, VECTORS)
def test_a_product_turns_by_its_right_factor_first(left, right, vector):
    np.testing.assert_allclose(
        rotate(vector, product(left, right)), rotate(rotate(vector, right), left), rtol=0, atol=1e-9
    )


@given(TURNS, VECTORS)
def test_a_rotation_keeps_lengths(turn, vector):
    assert np.linalg.norm(rotate(vector, turn)) == pytest.approx(np.linalg.norm(vector), abs=1e-9)


@given(TURNS, TURNS)
def test_the_rotation_between_two_turns_the_first_into_the_second_from_the_left(start, end):
    between = rotation_between(start, end)
    assert np.linalg.norm(between) <= np.pi + 1e-9
    assert is_same_turn(product(quaternion_from_vector(between), start), end)


@given(TURNS)
def test_a_matrix_and_its_quaternion_are_one_rotation(turn):
    matrix = np.stack([rotate(axis, turn) for axis in (X, Y, Z)], axis=1)
    assert is_same_turn(quaternion_from_matrix(matrix), turn)


@pytest.mark.parametrize(("rpy", "axis"), [((0.3, 0, 0), X), ((0, 0.3, 0), Y), ((0, 0, 0.3), Z)])
def test_roll_pitch_and_yaw_turn_about_x_y_and_z(rpy, axis):
    assert is_same_turn(quaternion_from_rpy(np.array(rpy)), quaternion_from_vector(0.3 * axis))


@given(VECTORS)
def test_roll_comes_before_pitch_and_yaw_about_fixed_axes(rpy):
    roll, pitch, yaw = (quaternion_from_vector(angle * axis) for angle, axis in zip(rpy, (X, Y, Z), strict=True))
    assert is_same_turn(quaternion_from_rpy(rpy), product(yaw, product(pitch, roll)))


@given(VECTORS, st.floats(0.1, 3))
def test_a_vector_is_shortened_along_its_direction_and_never_lengthened(vector, length):
    short = shortened(vector, length)
    assert np.linalg.norm(short) == pytest.approx(min(np.linalg.norm(vector), length))
    np.testing.assert_allclose(np.cross(short, vector), 0, atol=1e-9)
