"""Observations become the policy's arrays: stacked, resized, normalized, masked, and named by their content."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octo_service.preprocessing.content import CONTENT, digest
from octo_service.preprocessing.images import resize_and_crop, resize_lanczos
from octo_service.preprocessing.observations import FARTHEST_PROPRIO, ObservationPreprocessor
from octo_service.preprocessing.statistics import Statistics, normalize, un_normalize
from vla_server_base.contract import CameraSpec, Observation, PolicySpec, Window
from vla_server_base.errors import RequestError

STATISTICS = Statistics(
    mean=np.array([1, 2], np.float32), std=np.array([2, 4], np.float32), mask=np.array([True, False])
)


def spec(proprio_dim: int | None = 2, **changes) -> PolicySpec:
    cameras = (CameraSpec(name="primary", height=8, width=8), CameraSpec(name="wrist", height=4, width=4))
    fields = {"model": "octo", "horizon": 1, "action_names": ("x",), "action_units": ("m",), "default_dataset": "data"}
    return PolicySpec(cameras=cameras, window=2, proprio_dim=proprio_dim, **{**fields, **changes})


def preprocessor(center_crop: bool = False, **changes) -> ObservationPreprocessor:
    return ObservationPreprocessor(spec(**changes), {"data": STATISTICS}, center_crop)


def an_image(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def seen(seed: int = 0, **changes) -> Observation:
    fields = {
        "images": {"primary": an_image(16, seed), "wrist": an_image(4, seed)},
        "proprio": np.array([3, 5], np.float32),
    }
    return Observation(**{**fields, **changes})


def window(*observations: Observation, padding: int = 0) -> Window:
    mask = np.arange(padding + len(observations)) >= padding
    return Window(observations=(observations[0],) * padding + observations, timestep_pad_mask=mask)


def test_a_window_is_stacked_with_a_batch_of_one():
    arrays = preprocessor().window(window(seen(0), seen(1)))
    shapes = {name: value.shape for name, value in arrays.items() if name != "pad_mask_dict"}
    assert shapes == {
        "timestep_pad_mask": (1, 2),
        "image_primary": (1, 2, 8, 8, 3),
        "image_wrist": (1, 2, 4, 4, 3),
        "proprio": (1, 2, 2),
        CONTENT: (1, 2, 32),
    }
    assert all(mask.shape == (1, 2) and mask.all() for mask in arrays["pad_mask_dict"].values())


def test_images_come_oldest_first_and_resized():
    arrays = preprocessor().window(window(seen(0), seen(1)))
    for index in range(2):
        expected = resize_lanczos(an_image(16, index), 8, 8)
        np.testing.assert_array_equal(arrays["image_primary"][0, index], expected)


def test_only_the_primary_camera_is_cropped():
    arrays = preprocessor(center_crop=True).window(window(seen()))
    np.testing.assert_array_equal(arrays["image_primary"][0, 0], resize_and_crop(an_image(16), 8, 8))
    np.testing.assert_array_equal(arrays["image_wrist"][0, 0], an_image(4))


def test_what_a_timestep_lacks_is_black_or_zero_and_masked():
    arrays = preprocessor().window(window(seen(images={"primary": an_image(8)}, proprio=None), seen()))
    assert not arrays["image_wrist"][0, 0].any()
    assert not arrays["proprio"][0, 0].any()
    masks = {name: mask[0].tolist() for name, mask in arrays["pad_mask_dict"].items()}
    assert masks == {"image_primary": [True, True], "image_wrist": [False, True], "proprio": [False, True]}


def test_a_policy_without_proprio_is_not_shown_any():
    arrays = preprocessor(proprio_dim=None).window(window(seen()))
    assert "proprio" not in arrays
    assert "proprio" not in arrays["pad_mask_dict"]


def test_padding_has_the_content_of_the_first_observation_and_is_masked():
    arrays = preprocessor().window(window(seen(), padding=1))
    assert arrays["timestep_pad_mask"].tolist() == [[False, True]]
    np.testing.assert_array_equal(arrays[CONTENT][0, 0], arrays[CONTENT][0, 1])


def test_proprio_is_normalized_but_where_its_mask_says():
    arrays = preprocessor().window(window(seen()))
    np.testing.assert_allclose(arrays["proprio"][0, 0], [1, 5])


def test_proprio_of_a_dataset_without_statistics_stays_as_it_is():
    arrays = preprocessor().window(window(seen()), dataset="other")
    np.testing.assert_array_equal(arrays["proprio"][0, 0], [3, 5])


def test_proprio_far_from_everything_in_the_dataset_is_refused_by_its_number():
    far = seen(proprio=np.array([3 * FARTHEST_PROPRIO, 5], np.float32))
    with pytest.raises(RequestError, match=r"proprio\.0: got 3e\+06, but the dataset has a mean of 1 "):
        preprocessor().window(window(far))


def test_a_number_that_is_not_normalized_may_be_of_any_size():
    arrays = preprocessor().window(window(seen(proprio=np.array([3, 1e9], np.float32))))
    assert arrays["proprio"][0, 0, 1] == np.float32(1e9)


def test_other_proprio_or_another_image_is_another_content():
    others = [
        seen(),
        seen(proprio=None),
        seen(proprio=np.array([3, 6], np.float32)),
        seen(images={"primary": an_image(16)}),
        seen(images={"primary": an_image(16), "wrist": an_image(4, 1)}),
    ]
    contents = [preprocessor().window(window(each))[CONTENT][0, 0].tobytes() for each in others]
    assert len(set(contents)) == len(others)


def test_the_same_proprio_in_two_datasets_is_another_content():
    one, other = (preprocessor().window(window(seen()), dataset=name)[CONTENT] for name in ("data", "other"))
    assert one.tobytes() != other.tobytes()


def test_an_image_larger_than_the_policys_is_resized_once():
    prepared = preprocessor()
    fitted = prepared.fit_image("primary", an_image(16))
    assert fitted.shape == (8, 8, 3)
    whole, early = (
        prepared.window(window(seen(images={"primary": image})))["image_primary"] for image in (an_image(16), fitted)
    )
    np.testing.assert_array_equal(whole, early)


@pytest.mark.parametrize(
    ("camera", "side", "center_crop"), [("primary", 16, True), ("primary", 8, False), ("top", 99, False)]
)
def test_other_images_are_kept_for_later(camera: str, side: int, center_crop: bool):
    image = an_image(side)
    assert preprocessor(center_crop=center_crop).fit_image(camera, image) is image


def test_a_digest_names_images_by_camera_size_type_and_pixels():
    image = an_image(4)
    different = [
        {"a": image},
        {"b": image},
        {"a": image.reshape(2, 8, 3)},
        {"a": np.ascontiguousarray(image[::-1])},
        {"a": image, "b": image},
        {},
    ]
    assert len({digest(images).tobytes() for images in different}) == len(different)


def test_a_digest_ignores_the_order_of_cameras_and_the_layout_of_images():
    images = {"a": an_image(4, 0), "b": an_image(4, 1)}
    turned = {"b": np.asfortranarray(images["b"]), "a": images["a"]}
    assert digest(images).tobytes() == digest(turned).tobytes()


def test_what_is_hashed_beside_images_is_told_apart():
    others = [None, "None", b"", "", 0, ("a", "b"), ("ab",)]
    assert len({digest({}, other).tobytes() for other in others}) == len(others)


numbers = st.floats(-1000, 1000, width=32)


@given(st.lists(st.tuples(numbers, numbers, st.floats(0.125, 100, width=32), st.booleans()), min_size=1, max_size=5))
def test_un_normalizing_undoes_normalizing(rows: list[tuple[float, float, float, bool]]):
    given_numbers, mean, std, mask = (np.array(column) for column in zip(*rows, strict=True))
    statistics = Statistics(mean=mean.astype(np.float32), std=std.astype(np.float32), mask=mask.astype(bool))
    x = given_numbers.astype(np.float32)[None]
    np.testing.assert_allclose(un_normalize(normalize(x, statistics), statistics), x, rtol=1e-4, atol=1e-2)
