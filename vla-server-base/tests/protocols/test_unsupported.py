"""What would change the motion and is not done here is refused by name, on every protocol; all else is left alone."""

import json
from dataclasses import replace

import json_numpy
import numpy as np
import pytest
from lerobot_pickles import pickled_record, pickled_setup
from test_lerobot_grpc import END, chunk, joined, with_data

from vla_client.message_pack import pack
from vla_server_base.errors import RequestError
from vla_server_base.protocols import gr00t, lerobot, openpi, openvla, vla_eval
from vla_server_base.protocols.unsupported import UNSUPPORTED

RED = np.full((4, 6, 3), (255, 0, 0), np.uint8)
ASKED = {"image": RED, "instruction": "go"}


def read_by_vla_eval(reader, said):
    payload = {"images": {"primary": RED}, "task_description": "go", **said}
    vla_eval.read_observation(vla_eval.read(pack({"type": "observation", "payload": payload, "seq": 1})), reader)


def read_by_gr00t(reader, options):
    seen = {"video": {"primary": RED}, "language": {"task": "go"}}
    gr00t.read_observation(gr00t.read(pack({"data": {"observation": seen, "options": options}}, "npy")), reader)


def read_by_gr00t_n15(reader, said):
    gr00t.read_observation(gr00t.read(pack({"data": {"video.primary": RED, "language.task": "go", **said}})), reader)


def read_by_query(reader, said):
    message = {"observation": {"image_primary": RED}, "text": "go", **said}
    openvla.read_query(json.dumps({"use_this": json_numpy.dumps(message)}).encode(), reader)


def read_by_lerobot(reader, said):
    fields = {"timestamp": 1.0, "timestep": 0, "observation": {"primary": RED, "task": "go"}, "must_go": True, **said}
    message = joined(chunk(END, pickled_record("TimedObservation", fields)))
    lerobot.read_observation(message, reader, lerobot.LerobotSetup())


READS = {
    "openpi": lambda reader, said: openpi.read(pack({**ASKED, **said}), reader),
    "openpi's reset": lambda reader, said: openpi.read(pack({"endpoint": "reset", **said}), reader),
    "vla-eval": read_by_vla_eval,
    "gr00t": read_by_gr00t,
    "gr00t n1.5": read_by_gr00t_n15,
    "act": lambda reader, said: openvla.read_act(json_numpy.dumps({**ASKED, **said}).encode(), reader),
    "query": read_by_query,
    "lerobot": read_by_lerobot,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize(
    "said",
    [
        {"prev_action_chunk": np.zeros((4, 7))},
        {"prev_chunk_left_over": [[0.0] * 7]},
        {"rtc": {"enabled": True}},
        {"noise": np.zeros((4, 7))},
        {"temperature": 0.5},
    ],
    ids=lambda said: next(iter(said)),
)
def test_each_is_refused_by_name_on_every_protocol(reader, read, said):
    with pytest.raises(RequestError, match=next(iter(said))) as raised:
        read(reader, said)
    assert raised.value.hint


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_each_is_refused_where_it_asks_for_something_and_not_where_it_asks_for_nothing(reader, name):
    with pytest.raises(RequestError, match=f"^{name}: this server does not support it") as raised:
        reader.step({**ASKED, name: 1})
    assert raised.value.hint == UNSUPPORTED[name]
    for nothing in (None, False, {}, []):
        reader.step({**ASKED, name: nothing})


def test_each_is_refused_wherever_it_stands(reader):
    for said in ({"observation": {"noise": 1}}, {"observation/noise": 1}, {"options": {"noise": 1}}):
        with pytest.raises(RequestError, match="noise"):
            reader.step({**ASKED, **said})


def test_what_changes_nothing_is_left_alone(reader):
    said = {"joint_position": np.zeros(7), "timestamp": 3.5, "robot": "so101", "depth": RED[..., 0], "step": 3}
    assert reader.step({**ASKED, **said}).task.instruction == "go"


def test_an_unknown_execution_is_refused(reader):
    with pytest.raises(RequestError, match="execution: Input should be 'receding', 'chunk', 'ensemble', 'rtc'"):
        reader.step({**ASKED, "execution": "slowly"})


def test_an_unknown_option_of_gr00t_s_and_what_stands_beside_the_observation_is_refused(reader):
    with pytest.raises(RequestError, match="options: 'speed' is not known"):
        read_by_gr00t(reader, {"speed": 2})
    with pytest.raises(RequestError, match="data: 'noise' is not known"):
        gr00t.read(pack({"data": {"observation": {}, "noise": 1}}))


def test_a_setup_of_lerobot_s_is_refused_by_name():
    with pytest.raises(RequestError, match="rtc_config"):
        lerobot.read_setup(with_data(pickled_setup(rtc_config={"enabled": True}), number=1))
    with pytest.raises(RequestError, match="inference_delay: it is of one observation"):
        lerobot.read_setup(with_data(pickled_setup(inference_delay=2), number=1))
    assert lerobot.read_setup(with_data(pickled_setup(actions_per_chunk=9), number=1)).actions_per_chunk == 9


@pytest.mark.parametrize(("execution", "executes_chunks"), [("aligned", False), ("chunk", True)])
def test_lerobots_timesteps_continue_chunks_where_the_policy_does(reader, execution, executes_chunks):
    continuing = replace(reader, spec=replace(reader.spec, execution=execution))
    fields = {"timestamp": 1.0, "timestep": 7, "observation": {"primary": RED, "task": "go"}, "must_go": True}
    message = joined(chunk(END, pickled_record("TimedObservation", fields | {"inference_delay": 3})))
    request = lerobot.read_observation(message, continuing, lerobot.LerobotSetup()).request
    assert (request.sequence, request.inference_delay) == (7, 3)
    assert request.executes_chunks is executes_chunks
