"""`evaluate URL` of policies that are not Octo: what the suite gives to them, and what it refuses before it plays."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from policy_server import wait_until_healthy

from octo_service.program import OCTO
from vla_server_base.commands.command_line import parse, run
from vla_server_base.config import ServerConfig
from vla_server_base.contract import CameraSpec
from vla_server_base.episodes.policies import ARM_ACTION
from vla_server_base.errors import RequestError, SceneError, VLAError
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.tabletop.tables import table_of
from vla_server_base.testing import JointEcho

JOINTS = table_of("panda").joints
SERVER = ServerConfig(renderer="raycast", scene_workers=1)
ONE_TRIAL = "--tasks push_left_red --trials 1 --max-steps 4"


def arm_echo(**given: Any) -> JointEcho:
    """Return the echo of one arm's motions, with the cameras and the state of another kind of policy."""
    arm = {
        "action_names": ARM_ACTION,
        "action_units": ("m", "m", "m", "rad", "rad", "rad", "0 closed, 1 open"),
        "proprio_names": ("gripper", *JOINTS),
        "proprio_units": ("",) * 8,
        "execution": "chunk",
        "execution_horizon": 3,
    }

    class ArmEcho(JointEcho):
        changes = MappingProxyType({**JointEcho.changes, **arm, **given})

    return ArmEcho()


@contextmanager
def served(adapter: JointEcho) -> Iterator[str]:
    with serving(create_vla_app(adapter, SERVER, model_id="echo")) as url:
        wait_until_healthy(url)
        yield url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(arm_echo()) as url:
        yield url


@pytest.fixture(autouse=True)
def small_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLA_RENDERER", "raycast")
    monkeypatch.setenv("VLA_SCENE_WORKERS", "1")


def evaluate(arguments: str) -> None:
    run(OCTO, parse(OCTO, ["evaluate", *shlex.split(arguments)]))


def results_in(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    head, *rows = map(json.loads, path.read_text().splitlines())
    return head, [{key: row[key] for key in row if key not in ("predict_ms", "duration_s")} for row in rows]


@pytest.mark.parametrize(
    ("options", "cameras", "execution"),
    [
        ("", "top=primary, left_wrist=wrist", "chunk 3"),
        ("--execution blended --latency-ms 300", "top=primary, left_wrist=wrist", "blended 8"),
        (
            '--ensemble-weight 0.5 --scene-cameras "top=wrist left_wrist=primary"',
            "top=wrist, left_wrist=primary",
            "ensemble 0.5",
        ),
    ],
)
def test_a_policy_with_its_own_cameras_and_state_gets_the_same_results_both_ways(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture, options: str, cameras: str, execution: str
):
    found = []
    for through in ("predict", "execute"):
        path = tmp_path / f"{through}.jsonl"
        evaluate(f"{url} {ONE_TRIAL} {options} --through {through} --out {path}")
        head, trials = results_in(path)
        found.append(trials)
        profile = (
            f"cameras {cameras}; state joints+gripper (8); actions ee_delta at 5 Hz (the policy's are at 50 Hz);"
            f" no instruction; execution {execution}"
        )
        assert head["run"]["profile"] == profile
        assert f"; {profile}." in capsys.readouterr().out
        assert f"{head['settings']['execution']} " in f"{execution} "
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_the_policys_own_execution_is_that_of_the_same_flags(url: str, tmp_path: Path):
    found = []
    for number, options in enumerate(("", "--execution-horizon 3", "--execution-horizon 2")):
        path = tmp_path / f"{number}.jsonl"
        evaluate(f"{url} {ONE_TRIAL} {options} --videos {tmp_path} --out {path}")
        found.append(results_in(path))
    (own, its_trials), (same, same_trials), (other, _) = found
    assert (own["settings"], its_trials) == (same["settings"], same_trials)
    assert other["settings"]["execution_horizon"] == 2


def test_who_reads_no_instruction_is_not_asked_for_each_object(url: str, tmp_path: Path):
    path = tmp_path / "results.jsonl"
    evaluate(f"{url} --tasks pick_up_red --trials 1 --max-steps 1 --out {path}")
    assert [row["part"] for row in results_in(path)[1]] == ["suite"]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        (JointEcho.changes, RequestError, "does not move an end effector"),
        (
            {"proprio_names": ("waist", *JOINTS)},
            RequestError,
            "the policy's proprio is waist, joint1, .*, and the scene's arm measures 8: joint1, .*, gripper",
        ),
        ({"proprio_units": ("deg",) * 8}, RequestError, "in degrees"),
        (
            {"cameras": (*JointEcho.changes["cameras"], CameraSpec(name="front", height=48, width=64, required=True))},
            SceneError,
            "no camera for the policy's front, only primary, wrist",
        ),
    ],
)
@pytest.mark.parametrize("through", ["predict", "execute"])
def test_what_the_suite_cannot_give_is_refused_before_the_first_trial(
    tmp_path: Path, changes: Mapping[str, Any], error: type[VLAError], says: str, through: str
):
    path = tmp_path / "results.jsonl"
    with served(arm_echo(**changes)) as url, pytest.raises(error) as refused:
        evaluate(f"{url} {ONE_TRIAL} --through {through} --out {path}")
    assert re.search(says, str(refused.value))
    assert refused.value.hint
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--execution rtc", "cannot be guided"),
        ("--execution-horizon 17", "expected 1 to 16"),
        ("--execution aligned --execution-horizon 2", "cannot be combined with execution aligned"),
        ("--execution chunk --ensemble-weight 0", "execution chunk averages no chunks"),
        ("--scene-cameras top=side", "camera of the tabletop 'side' is not known"),
        ("--scene-cameras front=primary", "camera of the policy 'front' is not known"),
    ],
)
def test_options_that_the_policy_cannot_follow_are_refused(url: str, tmp_path: Path, options: str, says: str):
    path = tmp_path / "results.jsonl"
    with pytest.raises(VLAError, match=says) as refused:
        evaluate(f"{url} {ONE_TRIAL} {options} --out {path}")
    assert refused.value.hint
    assert not path.exists()


def test_other_weights_under_the_same_name_are_another_evaluation(url: str, tmp_path: Path):
    path = tmp_path / "results.jsonl"
    evaluate(f"{url} {ONE_TRIAL} --out {path}")
    retrained = arm_echo(details={"checkpoint_hash": "0123456789abcdef"})
    with served(retrained) as other, pytest.raises(RequestError, match="policy 'echo', now '0123456789abcdef'"):
        evaluate(f"{other} {ONE_TRIAL} --out {path}")
