"""What a model would become is counted as MuJoCo would make it, without making it."""

import mujoco
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.worker.element_checks import check_element, numbers, refuse_element
from vla_server_base.scenes.worker.element_counts import ElementCounter, ModelCounts

WHERE = "line 7"


@given(st.lists(st.integers(1, 5), max_size=4))
@settings(max_examples=20)
def test_nested_replicates_multiply_as_they_do_in_mujoco(counts):
    counter, xml = ElementCounter(), "<geom size='1'/>"
    for count in counts:
        counter.open("replicate", {"count": str(count)}, WHERE)
        xml = f"<replicate count='{count}' offset='1 0 0'>{xml}</replicate>"
    before = counter.counts.elements
    counter.open("geom", {}, WHERE)
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{xml}</worldbody></mujoco>")
    assert counter.counts.elements - before == model.ngeom


def test_what_follows_a_replicate_is_counted_once():
    counter = ElementCounter()
    counter.open("worldbody", {}, WHERE)
    counter.open("replicate", {"count": "100"}, WHERE)
    counter.close()
    counter.open("geom", {}, WHERE)
    assert counter.counts.elements == 3
    counter.close()
    counter.close()
    assert counter.is_at_root


@pytest.mark.parametrize(
    ("tag", "attributes", "texels"),
    [
        ("texture", {"type": "2d", "width": "8", "height": "4"}, 32),
        ("texture", {"width": "8", "height": "4"}, 8 * 48),
        ("texture", {"type": "cube", "width": "8", "height": "100"}, 800),
        ("geom", {}, 0),
    ],
)
def test_texels_of_a_cube_are_of_six_squares_at_least(tag, attributes, texels):
    counter = ElementCounter()
    counter.open(tag, attributes, WHERE)
    assert counter.counts.texels == texels


def test_a_flexcomp_has_the_points_of_its_grid_or_of_its_cells():
    counter = ElementCounter()
    counter.open("replicate", {"count": "2"}, WHERE)
    counter.open("flexcomp", {"count": "3 4 5", "cellcount": "2 2 2"}, WHERE)
    assert counter.counts.flex_points == 2 * 60


def test_a_zero_does_not_hide_a_huge_number():
    counter = ElementCounter()
    with pytest.raises(SceneRefused, match="points in flexcomps"):
        counter.open("flexcomp", {"count": "0 1e9 1"}, WHERE)


def test_every_attached_model_counts_as_the_largest():
    counter = ElementCounter()
    for _ in range(3):
        counter.open("attach", {"model": "m"}, WHERE)
        counter.close()
    counter.add_model(ModelCounts(elements=10))
    counter.add_model(ModelCounts(elements=40, texels=5))
    counter.count_attached(WHERE)
    assert (counter.counts.elements, counter.counts.texels) == (3 + 3 * 40, 15)


@pytest.mark.parametrize(
    ("opened", "message"),
    [
        ([("body", {})] * (limits.MAX_DEPTH + 1), "levels of elements"),
        ([("replicate", {"count": "100"}), ("replicate", {"count": "100"})], "10000 replicas of one element"),
        ([("attach", {})], "<attach> without a model"),
    ],
)
def test_too_much_is_refused_with_the_line(opened, message):
    counter = ElementCounter()
    *before, (last_tag, last_attributes) = opened
    for tag, attributes in before:
        counter.open(tag, attributes, WHERE)
    with pytest.raises(SceneRefused, match=f"^{WHERE}: .*{message}"):
        counter.open(last_tag, last_attributes, WHERE)


def test_an_include_is_no_level_of_its_own_kind_but_is_closed_like_one():
    counter = ElementCounter()
    counter.open("mujoco", {}, WHERE)
    counter.open_include()
    assert counter.counts.elements == 1
    counter.close()
    counter.close()
    assert counter.is_at_root


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1 2.5 -3e2", [1, 2.5, -300]), ("", []), ("2K", [2048]), ("1m", [2**20]), ("inf", [float("inf")])],
)
def test_numbers_may_have_a_unit_of_bytes(value, expected):
    assert numbers("size", "memory", value, WHERE) == expected


@pytest.mark.parametrize("value", ["one", "1,2", "nan", "0x10", "K"])
def test_what_is_not_a_number_is_an_error(value):
    with pytest.raises(SceneError, match=f"^{WHERE}: memory=.* of <size> is not a number"):
        numbers("size", "memory", value, WHERE)


@pytest.mark.parametrize(
    ("tag", "attributes", "message", "hint"),
    [
        ("geon", {}, "<geon> is not a known element", "did you mean 'geom'"),
        ("geom", {"rgb": "1 0 0"}, "<geom> takes no attribute 'rgb'", "did you mean 'rgba'"),
        ("geom", {"xyzzyqqq": ""}, "takes no attribute", "leave it out"),
        ("camera", {"resolution": "5000 1"}, "is more than 4096", "rangefinder"),
        ("option", {"timestep": "0"}, "is less than 1e-06", "simulation"),
    ],
)
def test_unknown_names_and_numbers_out_of_range_are_refused_with_what_would_do(tag, attributes, message, hint):
    with pytest.raises(SceneError, match=f"^{WHERE}: .*{message}") as caught:
        check_element(tag, attributes, WHERE)
    assert hint in caught.value.hint


def test_a_range_may_be_of_one_elements_attribute_alone():
    check_element("light", {"active": "true"}, WHERE)
    with pytest.raises(SceneRefused):
        check_element("headlight", {"active": "2"}, WHERE)


def test_plugins_are_refused_and_geoms_are_not():
    refuse_element("geom", WHERE)
    with pytest.raises(SceneRefused, match="<plugin> is not supported") as caught:
        refuse_element("plugin", WHERE)
    assert "native code" in caught.value.hint
