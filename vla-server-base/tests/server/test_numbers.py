"""Every number of a request has its range, the same wherever it may be given, and every number of a reply is one."""

import types
from typing import Annotated, Any, get_args, get_origin

import annotated_types
import httpx
import numpy as np
import pydantic
import pytest
from echo_server import answers, echo_app, of_one_colour, wait_until_loaded

from vla_server_base.errors import NotFinite
from vla_server_base.protocols.lerobot import ObservationFields, SetupFields
from vla_server_base.protocols.observations import MessageFields
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.schemas.base import Body, Reply
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.server.http_body import reply_json
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.sessions.action_chunking import TemporalEnsemble
from vla_server_base.testing import EchoAdapter

LEAST, MOST = (annotated_types.Ge, annotated_types.Gt), (annotated_types.Le, annotated_types.Lt)


def bodies(kind: Any) -> set[type[Body]]:
    """The bodies that there are in a type."""
    if not (isinstance(kind, type) and issubclass(kind, Body)):
        return {found for argument in get_args(kind) for found in bodies(argument)}
    return {kind, *(found for field in kind.model_fields.values() for found in bodies(field.annotation))}


def is_number(annotation: Any) -> bool:
    if get_origin(annotation) in (types.UnionType, Annotated) or str(get_origin(annotation)) == "typing.Union":
        return any(is_number(each) for each in get_args(annotation))
    return annotation in (int, float)


def limits(field: pydantic.fields.FieldInfo) -> list[Any]:
    """What a field's own declaration, and those of the types that it may have, say."""
    found = [*field.metadata]
    for each in get_args(field.annotation):
        for said in getattr(each, "__metadata__", ()):
            found += said.metadata if isinstance(said, pydantic.fields.FieldInfo) else [said]
    return found


KINDS = sorted(
    bodies(PredictRequest) | bodies(ExecuteRequest) | {MessageFields, ObservationFields, SetupFields},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_number_of_a_request_has_a_range(kind):
    numbers = {name: field for name, field in kind.model_fields.items() if is_number(field.annotation)}
    numbers.pop("keyframe", None)  # a scene's own
    for name, field in numbers.items():
        said = limits(field)
        assert any(isinstance(each, LEAST) for each in said), f"{kind.__name__}.{name} has no least"
        assert any(isinstance(each, MOST) for each in said), f"{kind.__name__}.{name} has no most"


def test_a_number_has_the_same_range_wherever_it_is_given():
    found: dict[str, set[str]] = {}
    for kind in (PredictRequest, ExecuteRequest, MessageFields):
        for name in ("seed", "execution_horizon", "ensemble_weight"):
            found.setdefault(name, set()).add(str(limits(kind.model_fields[name])))
    assert all(len(ranges) == 1 for ranges in found.values()), found


@pytest.mark.parametrize("weight", [-400.0, -10.5, 11.0])
def test_a_weight_beyond_its_range_is_refused_everywhere(client, weight):
    turn = {"image": of_one_colour(1, 2, 3), "session_id": "a", "execution": "ensemble"}
    for path, more in (("/predict", turn), ("/execute", {"xml_string": "<mujoco/>"})):
        answer = client.post(path, json={"instruction": "go", "ensemble_weight": weight, **more})
        assert answer.status_code == 422
        assert "ensemble_weight: Input should be" in answer.json()["error"]["message"]


def test_the_largest_weights_average_to_numbers():
    for weight in (-400.0, -10.0, 10.0, 400.0):
        ensemble = TemporalEnsemble(4, weight)
        for number in range(4):
            ensemble.put(np.full((4, 7), number, np.float64))
            action = ensemble.next_action()
            assert np.isfinite(action).all()
            assert 0 <= action[0] <= 3


@pytest.mark.parametrize("timestep", ["0", "-0.002", "1e-9", "10", "nan", "0.5"])
@pytest.mark.parametrize(("path", "more"), [("/predict", {"preview": True}), ("/execute", {"max_steps": 1})])
def test_a_time_step_of_no_use_is_refused(client, path, more, timestep):
    xml = bundled_scene("panda", "tabletop").replace('timestep="0.002"', f'timestep="{timestep}"')
    assert f'timestep="{timestep}"' in xml
    answer = client.post(path, json={"instruction": "go", "xml_string": xml, **more})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["code"] in ("scene_refused", "scene_invalid"), answer.text


class Numbers(Reply):
    name: str
    number: float
    rows: list[list[float]]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_reply_with_nan_or_infinity_is_not_written(number):
    for bad in (Numbers(name="a", number=number, rows=[]), Numbers(name="a", number=0.0, rows=[[0.0], [number]])):
        with pytest.raises(NotFinite, match="where a number belongs"):
            reply_json(bad)


def test_a_reply_may_say_nan_in_words():
    assert b'"NaN Infinity"' in reply_json(Numbers(name="NaN Infinity", number=1.0, rows=[]))


class BrokenEcho(EchoAdapter):
    def postprocess_action(self, chunk, dataset, action_format):
        action = super().postprocess_action(chunk, dataset, action_format)
        action.actions[:] = np.nan
        return action


def test_a_policy_that_answers_with_no_numbers_answers_with_an_error():
    with serving(echo_app(BrokenEcho())) as url:
        wait_until_loaded(url)
        answer = httpx.post(f"{url}/predict", json={"instruction": "go", "image": of_one_colour(1, 2, 3)})
        assert answers(f"{url}/info")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_finite")
