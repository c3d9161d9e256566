"""Windows, receding horizons and ensembles against what the reference's wrappers put out."""

import json
from pathlib import Path

import numpy as np
import pytest

from vla_server_base.contract import Observation
from vla_server_base.sessions.action_chunking import ObservationWindow, RecedingHorizon, TemporalEnsemble

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "golden_wrappers.json").read_text())
CHUNKS = [np.array(chunk) for chunk in GOLDEN["chunks"]]


def observation(number: int) -> Observation:
    return Observation(images={"primary": np.full((1, 1, 3), number, np.uint8)})


def numbers(window) -> list[int]:
    return [int(seen.images["primary"][0, 0, 0]) for seen in window.observations]


def test_a_window_is_the_references_history():
    history = ObservationWindow(2)
    for step, (slots, mask, *_) in enumerate(GOLDEN["history_horizon2"]):
        window = history.append(observation(step))
        assert numbers(window) == slots
        assert window.timestep_pad_mask.tolist() == [bool(real) for real in mask]


def test_a_longer_window_fills_from_the_right():
    history = ObservationWindow(3)
    masks = [history.append(observation(step)).timestep_pad_mask.tolist() for step in range(4)]
    assert masks == [[False, False, True], [False, True, True], [True] * 3, [True] * 3]


def test_a_reset_window_starts_over_with_the_new_first_observation():
    history = ObservationWindow(2)
    for step in range(3):
        history.append(observation(step))
    history.reset()
    window = history.append(observation(9))
    assert numbers(window) == [9, 9]
    assert window.timestep_pad_mask.tolist() == [False, True]


def put_and_execute(ensemble: TemporalEnsemble, chunk: np.ndarray) -> np.ndarray:
    assert ensemble.num_queued == 0
    ensemble.put(chunk)
    return ensemble.next_action()


@pytest.mark.parametrize("exp_weight", [0, 0.5])
def test_an_ensemble_is_the_references(exp_weight):
    ensemble = TemporalEnsemble(4, exp_weight)
    actions = [put_and_execute(ensemble, chunk) for chunk in CHUNKS]
    golden = GOLDEN[f"temporal_ensemble_expweight_{exp_weight}"]
    np.testing.assert_allclose(actions, golden, rtol=0, atol=1e-12)


def test_a_reset_ensemble_trusts_the_next_chunk_alone():
    ensemble = TemporalEnsemble(4)
    ensemble.put(CHUNKS[0])
    ensemble.reset()
    np.testing.assert_array_equal(put_and_execute(ensemble, CHUNKS[1]), CHUNKS[1][0])


def test_a_receding_horizon_executes_what_the_reference_executes():
    plan = RecedingHorizon(2)
    plan.put(CHUNKS[0])
    executed = [plan.next_action(), plan.next_action()]
    np.testing.assert_array_equal(executed, GOLDEN["rhc_exec2"]["executed"])
    assert plan.num_queued == 0


def test_a_receding_horizon_asks_for_a_chunk_first_and_after_a_reset():
    plan = RecedingHorizon(2)
    assert plan.num_queued == 0
    plan.put(CHUNKS[0])
    assert plan.num_queued == 2
    plan.reset()
    assert plan.num_queued == 0


def test_a_chunk_shorter_than_the_horizon_is_a_mistake():
    with pytest.raises(AssertionError, match="shorter"):
        RecedingHorizon(5).put(CHUNKS[0])
    with pytest.raises(AssertionError, match="shorter"):
        TemporalEnsemble(5).put(CHUNKS[0])
