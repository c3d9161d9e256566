"""A client that must name a dataset gets one, and is told which."""

from dataclasses import replace

import numpy as np
import pytest

from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.schemas.scene import SYNONYMS, known_dataset
from vla_server_base.testing import EchoAdapter

SPEC = EchoAdapter().spec
RED = np.full((4, 6, 3), (255, 0, 0), np.uint8)


def with_datasets(*names: str):
    return replace(SPEC, datasets=names, default_dataset=names[0] if names else None)


def test_a_policy_s_own_name_is_taken_as_it_is():
    assert known_dataset("echo_doubled", SPEC) == ("echo_doubled", None)


@pytest.mark.parametrize("names", SYNONYMS)
def test_another_name_of_the_same_dataset_is_known_and_said(names):
    for asked in names[1:]:
        assert known_dataset(asked, with_datasets("kuka", names[0])) == (
            names[0],
            f"dataset '{asked}' is '{names[0]}' here",
        )
        assert known_dataset(names[0], with_datasets("kuka", asked))[0] == asked


def test_where_there_is_one_dataset_or_none_any_name_gets_an_answer_and_is_told():
    assert known_dataset("fractal20220817_data", with_datasets("tabletop")) == (
        "tabletop",
        "dataset 'fractal20220817_data' is not known; actions are in the units of the only one, 'tabletop'",
    )
    dataset, note = known_dataset("bridge_orig", with_datasets())
    assert dataset is None
    assert "its own units" in note


def test_where_there_are_several_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName, match="dataset 'bridge_orig' is not known") as raised:
        known_dataset("bridge_orig", SPEC)
    assert raised.value.hint == "available: echo, echo_doubled"


def test_a_message_names_it_in_its_own_word_or_in_openvla_s(reader):
    message = {"image": RED, "prompt": "go"}
    for word in ("dataset", "unnorm_key"):
        assert reader.step({**message, word: "echo_doubled"}).settings == {"dataset": "echo_doubled"}
    with pytest.raises(RequestError, match="name two datasets"):
        reader.step({**message, "dataset": "echo", "unnorm_key": "echo_doubled"})
