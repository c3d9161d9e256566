"""Every field of every protocol, given as something else: read, or refused by name, and never an error of ours."""

import contextlib
import json

import json_numpy
import numpy as np
import pytest
from lerobot_pickles import pickled_record, pickled_setup
from test_lerobot_grpc import END, chunk, joined, with_data

from vla_client.message_pack import pack
from vla_server_base.errors import RequestError
from vla_server_base.protocols import gr00t, lerobot, openpi, openvla, vla_eval
from vla_server_base.protocols.known_keys import KNOWN_KEYS
from vla_server_base.protocols.observations import MessageFields
from vla_server_base.protocols.unsupported import UNSUPPORTED

RED = np.full((4, 6, 3), (255, 0, 0), np.uint8)
ODD = {
    "none": None,
    "true": True,
    "a number": 3,
    "a large number": 2**63,
    "a fraction": 0.5,
    "infinity": float("inf"),
    "text": "x",
    "no text": "",
    "bytes": b"\xff",
    "a list": [1, "x", [2]],
    "no list": [],
    "a deep list": [[[[[[1]]]]]],
    "a map": {"a": {"b": [1]}},
    "no map": {},
    "an array": np.zeros((2, 2)),
    "an array of one": np.zeros(1),
    "an array of nothing": np.zeros((0, 3)),
    "an array of no axis": np.array(3),
    "an array of yes and no": np.array([True, False]),
    "a list of arrays": [np.zeros(2), np.zeros(2)],
}
IN_JSON = {name: value for name, value in ODD.items() if name not in ("infinity", "bytes")}
NAMED = [
    *MessageFields.model_fields,
    *(key for keys in KNOWN_KEYS.values() for key in keys[:3]),
    *list(UNSUPPORTED)[::8],
]
NAMED += ["image_mask", "images", "gripper", "observation", "video"]
ASKED = {"image": RED, "instruction": "go"}
SEEN = {"video": {"primary": RED}, "state": {"x": np.zeros((1, 3))}, "language": {"task": "go"}}
BARE = {"video.primary": RED, "state.x": np.zeros((1, 3)), "annotation.human.task_description": "go"}
OBSERVED = {"images": {"primary": RED}, "task_description": "go"}
QUERY = {"observation": {"image_primary": RED}, "text": "go", "dataset_name": "echo"}
TIMED = {"timestamp": 1.0, "timestep": 0, "observation": {"primary": RED, "task": "go", "a.pos": 0.1}, "must_go": True}


def read_openpi(reader, message):
    openpi.read(pack(message), reader)


def read_vla_eval(reader, message):
    frame = vla_eval.read(pack(message))
    vla_eval.read_start(frame, reader)
    vla_eval.read_observation(frame, reader)


def read_gr00t(reader, message):
    request = gr00t.read(pack(message))
    gr00t.read_observation(request, reader)


def read_gr00t_reset(reader, message):
    gr00t.read_reset(gr00t.read(pack({"endpoint": "reset", **message})), reader)


def read_act(reader, message):
    openvla.read_act(json_numpy.dumps(message).encode(), reader)


def read_query(reader, message):
    openvla.read_query(json.dumps({"use_this": json_numpy.dumps(message)}).encode(), reader)


def read_reset(reader, message):
    openvla.read_reset(json_numpy.dumps(message).encode(), reader)


def read_setup(reader, fields):
    lerobot.read_setup(with_data(pickled_setup(**fields), number=1))


def read_observation(reader, fields):
    message = joined(chunk(END, pickled_record("TimedObservation", fields)))
    lerobot.read_observation(message, reader, lerobot.LerobotSetup(state_names=("a.pos",)))


CASES = {
    "openpi": (read_openpi, ASKED, ["endpoint", *NAMED], ODD),
    "openpi's reset": (read_openpi, {"endpoint": "reset"}, NAMED, ODD),
    "vla-eval": (
        read_vla_eval,
        {"type": "observation", "payload": OBSERVED, "seq": 1},
        ["type", "payload", "seq"],
        ODD,
    ),
    "gr00t": (read_gr00t, {"data": {"observation": SEEN, "options": None}}, ["endpoint", "data"], ODD),
    "gr00t's reset": (read_gr00t_reset, {"data": {"options": None}}, ["data"], ODD),
    "act": (read_act, ASKED, ["encoded", *NAMED], IN_JSON),
    "query": (read_query, QUERY, ["text", "modality", "ensemble", "dataset_name", *NAMED], IN_JSON),
    "reset": (read_reset, {}, NAMED, IN_JSON),
    "lerobot's setup": (read_setup, {}, list(lerobot.SetupFields.model_fields), ODD),
    "lerobot": (read_observation, TIMED, list(lerobot.ObservationFields.model_fields), ODD),
}


@pytest.mark.parametrize(("read", "message", "names", "odd"), CASES.values(), ids=CASES)
def test_a_field_of_another_type_is_read_or_refused(reader, read, message, names, odd):
    for name in names:
        for value in odd.values():
            with contextlib.suppress(RequestError):
                read(reader, {**message, name: value})


def inside(read, *path):
    """A reading of a message whose map at a path holds some values."""

    def read_inside(reader, values):
        message = values
        for name in reversed(path):
            message = {name: message}
        read(reader, message if read is not read_vla_eval else {"type": "observation", "seq": 1, **message})

    return read_inside


INSIDE = {
    "vla-eval's payload": (inside(read_vla_eval, "payload"), OBSERVED, NAMED),
    "vla-eval's images": (inside(read_vla_eval, "payload", "images"), {"primary": RED}, ["primary", "wrist"]),
    "gr00t's observation": (inside(read_gr00t, "data", "observation"), SEEN, list(SEEN)),
    "gr00t's video": (inside(read_gr00t, "data", "observation", "video"), {"primary": RED}, ["primary", "wrist"]),
    "gr00t's options": (inside(read_gr00t_reset, "data", "options"), {}, NAMED),
    "gr00t n1.5's data": (inside(read_gr00t, "data"), BARE, [*BARE, "observation", "options", *NAMED]),
    "lerobot's observation": (
        lambda reader, observation: read_observation(reader, {**TIMED, "observation": observation}),
        TIMED["observation"],
        [*TIMED["observation"], "observation.images.primary", "observation.state", *NAMED],
    ),
    "lerobot's features": (
        lambda reader, features: read_setup(reader, {"lerobot_features": features}),
        {},
        ["observation.state", "observation.images.primary", "names"],
    ),
    "lerobot's state": (
        lambda reader, state: read_setup(reader, {"lerobot_features": {"observation.state": state}}),
        {},
        ["names", "dtype", "shape"],
    ),
    "openpi's images": (inside(read_openpi, "images"), {"top": RED}, ["top", "wrist"]),
    "openpi's masks": (inside(read_openpi, "image_mask"), {}, ["top", "base_0_rgb"]),
}


@pytest.mark.parametrize(("read", "values", "names"), INSIDE.values(), ids=INSIDE)
def test_a_field_of_another_type_in_a_map_is_read_or_refused(reader, read, values, names):
    for name in names:
        for value in ODD.values():
            with contextlib.suppress(RequestError):
                read(reader, {**values, name: value})
