"""A scene's key names its content, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from vla_server_base.scenes.messages import Scene

ASSETS = st.dictionaries(st.text(max_size=4), st.binary(max_size=4), max_size=3)
SCENES = st.builds(lambda xml, assets: Scene(xml=xml, assets=assets), st.text(max_size=4), ASSETS)


@given(SCENES)
def test_the_order_in_which_files_are_sent_does_not_matter(scene):
    turned = Scene(xml=scene.xml, assets=dict(reversed(scene.assets.items())))
    assert turned.key == scene.key


@given(SCENES, SCENES)
def test_scenes_of_other_content_have_other_keys(one, other):
    assert (one.key == other.key) == (one.xml == other.xml and dict(one.assets) == dict(other.assets))


def test_bytes_do_not_move_between_a_name_its_file_and_the_next_name():
    moved = [{"ab": b"c"}, {"a": b"bc"}, {"a": b"b", "c": b""}, {}]
    assert len({Scene(xml="x", assets=assets).key for assets in moved}) == len(moved)


def test_a_scene_is_as_large_as_its_text_and_files():
    assert Scene(xml="<mujoco/>", assets={"a.obj": bytes(40), "b.obj": bytes(2)}).num_bytes == 9 + 42
