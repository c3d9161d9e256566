"""A step in parts, and with blocks computed twice: the same gradient in less memory; how much a step takes."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_dataset import small_store
from small_octo import DIFFUSION, REGRESSION, batch_of, small_octo

from octo_service.errors import TrainingError
from octo_service.model.octo import Octo
from octo_service.training import preparation
from octo_service.training.fit import Fit
from octo_service.training.free_memory import _of_groups, _of_machine, _of_process, free_bytes
from octo_service.training.learning_rates import Constant
from octo_service.training.memory import Step, fitting_micro_batch, peak_bytes
from octo_service.training.optimizer import FROZEN_KEYS, Optimizer
from octo_service.training.preparation import prepare
from octo_service.training.recipe import Recipe
from octo_service.training.trainer import Trainer

BATCH = 8
OPTIMIZER = Optimizer(learning_rate=Constant(peak_value=1e-3, warmup_steps=0))
DISCRETE = {"name": "DiscreteActionHead", "kwargs": {"use_map": True, "vocab_size": 16}}
DROPPING = {**DIFFUSION, "kwargs": {**DIFFUSION.get("kwargs", {}), "use_map": True, "dropout_rate": 0.5}}


def _uneven_batch() -> dict:
    """Make a batch whose samples teach unequal numbers of actions, some none."""
    batch = batch_of(BATCH, seed=0, window=2)
    batch["observation"]["timestep_pad_mask"][: BATCH // 2, 0] = False
    batch["action_pad_mask"][1:3] = False
    batch["action_pad_mask"][5, :, 1:] = False
    return batch


def _after_a_step(octo: Octo, params: dict, **fit) -> tuple[dict, dict]:
    """Return the gradient without its signs, as the second moments hold it, and the metrics."""
    trainer = Trainer(octo, params, replace(OPTIMIZER, clip_gradient=None), **fit)
    state, metrics = trainer.step(trainer.start(seed=3), _uneven_batch())
    squares = jax.device_get(state.moments.nu)
    return {path: np.sqrt(square / 0.001) for path, square in squares.items()}, jax.device_get(metrics)


def _assert_alike(found: dict, expected: dict) -> None:
    whole = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in expected.values()))
    for path, leaf in expected.items():
        # What is but rounding of the whole, such as the slope of keys' biases, is not compared.
        limit = 1e-4 * np.linalg.norm(leaf) + 1e-6 * whole
        assert np.linalg.norm(found[path] - leaf) < limit, path


@pytest.mark.parametrize("head", [DROPPING, REGRESSION, DISCRETE], ids=["diffusion", "mse", "discrete"])
def test_a_step_in_parts_has_the_gradient_of_the_whole(head: dict):
    octo, params = small_octo(head)
    whole, metrics = _after_a_step(octo, params)
    in_parts, same_metrics = _after_a_step(octo, params, micro_batch=2)
    _assert_alike(in_parts, whole)
    for name, value in metrics.items():
        assert float(same_metrics[name]) == pytest.approx(float(value), rel=1e-4), name


@pytest.mark.parametrize("transformer", [{}, {"dropout_rate": 0.3}], ids=["stacked", "dropping"])
def test_blocks_that_are_computed_twice_have_the_same_gradient(transformer: dict):
    octo, params = small_octo(REGRESSION, num_layers=2, **transformer)
    kept, metrics = _after_a_step(octo, params)
    for fit in ({"remat": True}, {"remat": True, "micro_batch": 4}):
        again, same_metrics = _after_a_step(octo, params, **fit)
        _assert_alike(again, kept)
        assert float(same_metrics["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-5)


def test_a_batch_is_measured_in_parts_as_it_is_whole():
    octo, params = small_octo(DIFFUSION)
    rng = np.array([1, 0], np.uint32)
    found = []
    for micro_batch in (None, 2):
        trainer = Trainer(octo, params, OPTIMIZER, micro_batch=micro_batch)
        found.append(float(trainer.measure(trainer.start(seed=0), _uneven_batch(), rng)["loss"]))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def _step(batch_size: int = BATCH, **optimizer) -> Step:
    octo, params = small_octo(REGRESSION, num_layers=4)
    chosen = replace(OPTIMIZER, **optimizer)
    return Step(octo=octo, optimizer=chosen, params=params, sample=batch_of(1, seed=0), batch_size=batch_size)


def test_the_most_that_is_alive_is_counted_as_the_program_is_written():
    x = jnp.zeros(1000, jnp.float32)
    assert peak_bytes(jax.make_jaxpr(lambda x: jnp.sin(x))(x).jaxpr) == 8000
    assert peak_bytes(jax.make_jaxpr(lambda x: jnp.sin(jnp.cos(jnp.sin(x))))(x).jaxpr) == 12000
    assert peak_bytes(jax.make_jaxpr(lambda x: jnp.sin(jnp.cos(jnp.sin(x))))(x).jaxpr, donated=1) == 8000
    looped = jax.make_jaxpr(lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x), x), x, None, length=10)[1])(x)
    assert 44000 <= peak_bytes(looped.jaxpr) <= 60000


def test_fewer_samples_fewer_parameters_and_blocks_computed_twice_take_less():
    step = _step(batch_size=64)
    whole = step.bytes_at_once(64, remat=False)
    assert step.bytes_at_once(16, remat=False) < 0.5 * whole
    assert step.bytes_at_once(64, remat=True) < 0.7 * whole
    assert _step(batch_size=64, frozen_keys=FROZEN_KEYS["head_only"]).bytes_at_once(64, remat=False) < 0.7 * whole


def test_as_many_samples_at_a_time_as_fit_are_chosen():
    step = _step(batch_size=12)
    assert fitting_micro_batch(step, Fit(), None)[0] == 12
    room = step.bytes_at_once(4, remat=False)
    size, sentence = fitting_micro_batch(step, Fit(), room)
    assert size == 4
    assert sentence.endswith("4 of its 12 samples at a time")
    assert fitting_micro_batch(step, Fit(micro_batch=2), room)[0] == 2
    assert fitting_micro_batch(step, Fit(remat=True), room)[0] > 4


def test_what_does_not_fit_is_refused_before_the_first_step_with_a_way_on():
    step = _step(batch_size=12)
    room = step.bytes_at_once(4, remat=False)
    with pytest.raises(TrainingError, match=r"--micro-batch 6 takes about .* free; give --micro-batch 4$"):
        fitting_micro_batch(step, Fit(micro_batch=6), room)
    with pytest.raises(TrainingError, match=r"--micro-batch 1 takes .* --remat would take .*, --mode head_only would"):
        fitting_micro_batch(step, Fit(), 1000)
    with pytest.raises(TrainingError, match="--micro-batch 5 does not divide --batch-size 12; 1, 2, 3, 4, 6, 12 do"):
        fitting_micro_batch(step, Fit(micro_batch=5), None)


def test_a_run_is_prepared_for_the_memory_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small_store(tmp_path / "data")
    recipe = Recipe(
        source="random://octo-tiny",
        data=(tmp_path / "data",),
        camera=("primary=primary@32",),
        window=1,
        batch_size=64,
        keep_image_prob=0,
    )
    prepared = prepare(recipe, tmp_path, tmp_path / "episodes")
    assert prepared.trainer.micro_batch == 64
    assert prepared.report.endswith("64 of its 64 samples at a time")
    monkeypatch.setattr(preparation, "free_bytes", lambda: 30_000_000)
    micro_batch = prepare(recipe, tmp_path, tmp_path / "episodes").trainer.micro_batch
    assert micro_batch is not None
    assert micro_batch < 64


def test_free_memory_is_what_the_machine_and_the_limits_of_the_process_leave(tmp_path: Path):
    assert (free_bytes() or 0) > 0
    (tmp_path / "meminfo").write_text("MemTotal: 3000 kB\nMemAvailable:    2000 kB\n")
    assert list(_of_machine(tmp_path / "meminfo")) == [2_048_000]
    assert list(_of_process(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    ("line", "top", "names"),
    [
        ("0::/job", "", ("memory.max", "memory.current", "inactive_file")),
        ("4:memory:/job", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
    ids=["version 2", "version 1"],
)
def test_a_control_group_leaves_its_limit_less_what_is_used_and_not_cache(
    tmp_path: Path, line: str, top: str, names: tuple[str, str, str]
):
    (tmp_path / "cgroup").write_text(f"3:cpuset:/job\n{line}\n")
    group = tmp_path / top / "job"
    group.mkdir(parents=True)
    for name, value in zip(names[:2], ("1000", "700"), strict=True):
        (group / name).write_text(f"{value}\n")
    (group / "memory.stat").write_text(f"anon 5\n{names[2]} 200\n")
    assert list(_of_groups(tmp_path / "cgroup", tmp_path)) == [500]
    (group / names[0]).write_text("max\n")
    if not top:
        assert list(_of_groups(tmp_path / "cgroup", tmp_path)) == []
