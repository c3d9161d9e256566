"""Success of an episode: measures within bounds, at an instant or since the start."""

import numpy as np
import pytest

from vla_server_base.episodes import Predicate
from vla_server_base.scenes.messages import Measure

HEIGHT = Measure(kind="height", names=("cube",))


@pytest.mark.parametrize(("value", "holds"), [(0.04, False), (0.05, True), (0.1, True), (0.11, False)])
def test_a_measure_is_within_its_bounds(value, holds):
    assert Predicate(measure=HEIGHT, low=0.05, high=0.1).holds(value, at_start=1.0) is holds


@pytest.mark.parametrize(("value", "holds"), [(1.04, False), (1.06, True)])
def test_since_the_start_its_change_counts(value, holds):
    assert Predicate(measure=HEIGHT, low=0.05, since_start=True).holds(value, at_start=1.0) is holds


def test_a_number_that_is_not_one_is_no_success():
    assert not Predicate(measure=HEIGHT).holds(np.nan, at_start=0.0)
