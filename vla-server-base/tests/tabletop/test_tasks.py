"""The names, instructions and success criteria of tasks, which can be sent to a server."""

import json
import re
from itertools import pairwise

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.errors import UnknownName
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.success import success_to_body
from vla_server_base.tabletop.paraphrases import HELD_OUT, TRAINED, paraphrases
from vla_server_base.tabletop.tables import TABLES
from vla_server_base.tabletop.tasks import TASKS, task_named
from vla_server_base.testing import EchoAdapter

ALL_TRAINED = {phrase for task in TASKS.values() for phrase in paraphrases(task)}


def words(phrases) -> set[str]:
    return {word for phrase in phrases for word in re.findall(r"[a-z]+", phrase)}


def test_the_suite_has_every_object_picked_pushed_and_put():
    assert len(TASKS) == 3 + 3 * 2 + 4 + 6
    assert {"pick_up_red_cube", "push_left_green_sphere", "put_on_red_cube_blue_cube"} <= TASKS.keys()


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName, match="pick_up_cup") as refusal:
        task_named("pick_up_cup")
    assert "pick_up_red_cube" in (refusal.value.hint or "")


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_held_out_paraphrases_never_occur_in_training(task):
    assert len(paraphrases(task, "held_out")) >= 8
    assert ALL_TRAINED.isdisjoint(paraphrases(task, "held_out"))


def test_held_out_templates_are_no_trained_ones_and_say_nothing_in_new_words():
    for verb, templates in HELD_OUT.items():
        assert set(templates).isdisjoint(TRAINED[verb])
    assert words(phrase for task in TASKS.values() for phrase in paraphrases(task, "held_out")) <= words(ALL_TRAINED)


def test_no_phrase_means_two_tasks():
    instructions = sorted(
        phrase for task in TASKS.values() for split in ("train", "held_out") for phrase in paraphrases(task, split)
    )
    assert [a for a, b in pairwise(instructions) if a == b] == []


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_success_can_be_sent_to_a_server_and_means_the_same_there(task):
    predicates = task.success(TABLES["panda"])
    body = {"instruction": "x", "xml_string": "<mujoco/>", "success": success_to_body(predicates)}
    received = ExecuteRequest.model_validate_json(json.dumps(body))
    inputs = received.to_core(EchoAdapter().spec, ServerConfig(), lambda _camera, image: image)
    assert inputs.settings.success == predicates
