"""Messages between server and worker: what comes through, and what a worker that was taken over cannot do."""

import asyncio
import struct
import tempfile
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from vla_server_base.errors import RendererUnavailable, SceneCrashed, UnknownName
from vla_server_base.scenes.ipc import MAX_REPLY_BYTES, ReplyWriter, encode_message, read_message, read_reply
from vla_server_base.scenes.messages import (
    BodyPoses,
    Confinement,
    ControlState,
    Cost,
    GltfReply,
    Pose,
    RenderedView,
    RenderQuality,
    RenderReply,
    RenderRequest,
    RolloutReply,
    RolloutRequest,
    RolloutStep,
    Scene,
    SceneJob,
    SceneNames,
    SceneState,
    SimulationState,
    Snapshot,
    WorkerReply,
    WorkerSettings,
)
from vla_server_base.scenes.robots import BUNDLED_PANDA
from vla_server_base.scenes.worker_process import WorkerProcess

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
VIEW = RenderedView(images={"primary": IMAGE}, cameras={"primary": "top"}, geom_groups=(0, 1))
RENDERED = RenderReply(view=VIEW, cost=Cost(render_ms=1.5, num_bytes=7), no_proprio="this scene has no arm")
ROLLED_OUT = RolloutReply(
    steps=(),
    state=SimulationState(qpos=np.array([0.5]), qvel=np.zeros(1), ctrl=np.zeros(0), time_s=0.25),
    pose=None,
    measures=(0.125,),
    end=Snapshot(physics=np.arange(3.0), control=ControlState(joint_targets=np.ones(2), gripper_opening=0.5)),
    robot=BUNDLED_PANDA,
    names=SceneNames(joints=("slide",), bodies=("world", "ball"), moving_bodies=(1,)),
    view=None,
    cost=Cost(),
    proprio=np.array([0.5, 1.0]),
    proprio_names=("slide", "gripper"),
)
STEP = RolloutStep(
    state=ROLLED_OUT.state,
    joint_targets=np.ones(2),
    pose=Pose(position=np.zeros(3), quaternion=np.array([1.0, 0, 0, 0])),
    gripper_opening=1.0,
    contacts=(),
    violations=(),
    measures=(),
)
SETTINGS = WorkerSettings(
    renderer="raycast", quality=RenderQuality(), timeout_s=5, memory_mb=512, max_scenes=5, max_jobs=5
)


def sent(*outcomes, **rest) -> bytes:
    """Return what a worker writes that replies with these outcomes."""
    with tempfile.TemporaryFile() as stream:
        writer = ReplyWriter(stream)
        for outcome in outcomes:
            writer.send(WorkerReply(outcome=outcome, **{"cached": frozenset(), "must_restart": False, **rest}))
        stream.seek(0)
        return stream.read()


def received(content: bytes, count: int = 1) -> list[WorkerReply]:
    async def read() -> list[WorkerReply]:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return [await read_reply(reader) for _ in range(count)]

    return asyncio.run(read())


def view_in(reply: WorkerReply) -> RenderedView:
    assert isinstance(reply.outcome, RenderReply)
    return reply.outcome.view


def framed(reply: object) -> bytes:
    body = msgspec.msgpack.encode(reply)
    return struct.pack("<Q", len(body)) + body


def test_settings_and_jobs_come_through_and_the_end_of_the_stream_is_none():
    scene = Scene(xml="<mujoco/>", assets={"a.obj": b"\0\1"})
    rollout = RolloutRequest(start=SceneState(qpos=np.array([1.0])), actions=np.ones((2, 7)))
    jobs = [
        SceneJob(key="k", scene=scene, request=RenderRequest()),
        SceneJob(key="k", scene=None, request=rollout, alone=True),
    ]
    with tempfile.TemporaryFile() as stream:
        stream.write(b"".join(encode_message(message) for message in (SETTINGS, *jobs)))
        stream.seek(0)
        settings, first, second, end = (read_message(stream) for _ in range(4))
    assert settings == SETTINGS
    assert first == jobs[0]
    assert second.alone
    np.testing.assert_array_equal(second.request.actions, rollout.actions)
    assert end is None


def test_images_and_costs_come_back_bit_for_bit():
    (reply,) = received(sent(RENDERED, cached=frozenset({"k"}), must_restart=True))
    assert reply.cached == {"k"}
    assert reply.must_restart
    np.testing.assert_array_equal(view_in(reply).images["primary"], IMAGE)
    assert view_in(reply).cameras == {"primary": "top"}
    assert isinstance(reply.outcome, RenderReply)
    assert reply.outcome.cost == RENDERED.cost
    assert reply.outcome.no_proprio == RENDERED.no_proprio


def test_a_rollout_comes_back_whole():
    (reply,) = received(sent(ROLLED_OUT))
    assert isinstance(reply.outcome, RolloutReply)
    np.testing.assert_array_equal(reply.outcome.end.physics, ROLLED_OUT.end.physics)
    assert reply.outcome.end.control.gripper_opening == 0.5
    assert reply.outcome.robot == BUNDLED_PANDA
    assert reply.outcome.names == ROLLED_OUT.names
    np.testing.assert_array_equal(reply.outcome.proprio, ROLLED_OUT.proprio)
    assert reply.outcome.proprio_names == ROLLED_OUT.proprio_names
    assert reply.outcome.measures == (0.125,)


def test_a_gltf_file_comes_back_whole():
    (reply,) = received(sent(GltfReply(glb=b"glTF\0", cost=Cost(compile_ms=2.0))))
    assert reply.outcome == GltfReply(glb=b"glTF\0", cost=Cost(compile_ms=2.0))


def test_a_gltf_file_of_another_type_is_no_reply():
    reply = {"cached": [], "must_restart": False, "gltf": {"glb": ["not", "bytes"], "cost": {}}}
    with pytest.raises(ValueError, match="glb"):
        received(framed(reply))


def frames(count: int) -> BodyPoses:
    return BodyPoses(times_s=np.arange(count) / 30, poses=np.full((count, 2, 7), count / 2))


def test_body_poses_come_back_whatever_the_number_of_their_frames():
    steps = tuple(replace(STEP, body_poses=frames(count)) for count in (9, 6, 0))
    (reply,) = received(sent(replace(ROLLED_OUT, steps=steps, body_poses=frames(1))))
    assert isinstance(reply.outcome, RolloutReply)
    for sent_step, step in zip(steps, reply.outcome.steps, strict=True):
        np.testing.assert_array_equal(step.body_poses.times_s, sent_step.body_poses.times_s)
        np.testing.assert_array_equal(step.body_poses.poses, sent_step.body_poses.poses)
    np.testing.assert_array_equal(reply.outcome.body_poses.poses, frames(1).poses)


def test_an_image_that_is_a_view_of_another_array_comes_back_in_its_own_order():
    turned = RenderedView(images={"primary": IMAGE[::-1]}, cameras={}, geom_groups=())
    (reply,) = received(sent(RenderReply(view=turned, cost=Cost())))
    np.testing.assert_array_equal(view_in(reply).images["primary"], IMAGE[::-1])


def test_replies_come_in_their_order_and_do_not_share_the_writers_buffer():
    first, second = received(sent(RENDERED, UnknownName("camera", "x", ["y"])), count=2)
    np.testing.assert_array_equal(view_in(first).images["primary"], IMAGE)
    assert isinstance(second.outcome, UnknownName)


def test_an_error_keeps_its_class_code_message_and_hint():
    error = UnknownName("camera", "wrst", ["wrist", "top"])
    (reply,) = received(sent(error))
    assert type(reply.outcome) is UnknownName
    assert (reply.outcome.code, reply.outcome.message, reply.outcome.hint) == (error.code, error.message, error.hint)


def test_confinement_comes_with_the_first_reply():
    confinement = Confinement(files=True, network=True, programs=False, reason="an old kernel")
    assert received(sent(RENDERED, confinement=confinement))[0].confinement == confinement


def test_an_error_of_a_class_that_workers_may_not_name_counts_as_a_crash():
    error = {"name": "SystemExit", "message": "bye", "hint": "run", "code": "x"}
    (reply,) = received(framed({"cached": [], "must_restart": False, "error": error}))
    assert type(reply.outcome) is SceneCrashed


@pytest.mark.parametrize("length", [0, 4, 8, 20, -1])
def test_a_reply_that_is_cut_is_the_end_of_the_worker(length):
    with pytest.raises(EOFError):
        received(sent(RENDERED)[:length])


def test_a_reply_that_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(ValueError, match=f"{MAX_REPLY_BYTES + 1} bytes; the limit is"):
        received(struct.pack("<Q", MAX_REPLY_BYTES + 1))


def with_image(array: object) -> dict:
    view = {"images": {"primary": array}, "cameras": {}, "geom_groups": []}
    return {"cached": [], "must_restart": False, "render": {"view": view, "cost": {}}}


@pytest.mark.parametrize(
    "reply",
    [
        "nonsense",
        {"cached": []},
        {"cached": [], "must_restart": False},
        {"cached": [1], "must_restart": False},
        with_image(["|O", [1], b"12345678"]),
        with_image(["|u1", [1, 2, 3], b"12345"]),
        with_image(["|u1", [2, 3], b"123456"]),
        with_image(["<f8", [1, 1, 1], b"12345678"]),
        with_image("image"),
    ],
)
def test_what_is_not_a_reply_is_refused_by_its_types(reply):
    with pytest.raises(ValueError):
        received(framed(reply))


def test_bytes_that_are_not_msgpack_are_refused():
    with pytest.raises(ValueError):
        received(struct.pack("<Q", 4) + b"\xc1\xc1\xc1\xc1")


@pytest.mark.anyio
@pytest.mark.parametrize("output", ["garbage, garbage", "\\004\\000\\000\\000\\000\\000\\000\\000\\301\\301\\301\\301"])
async def test_a_worker_that_writes_garbage_is_ended_and_its_start_fails(tmp_path, monkeypatch, output):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nprintf '{output}'\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(RendererUnavailable, match="raycast does not work here: its worker was ended by SIGKILL"):
        await WorkerProcess.launch(SETTINGS)
