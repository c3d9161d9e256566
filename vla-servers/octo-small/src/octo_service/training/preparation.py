"""From a recipe to what a run is made of: the episodes, the changed policy with its parameters, and the trainer."""

import copy
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.errors import TrainingError
from octo_service.model import OctoModel, t5
from octo_service.model.octo import Octo
from octo_service.model.octo_config import build_octo
from octo_service.model.random_weights import architecture_named
from octo_service.model.shapes import expected_shapes
from octo_service.model.tokens import ImageTokenizer
from octo_service.preprocessing.dataset_statistics import statistics_of
from octo_service.preprocessing.text import TextTokenizer, tokenizer_options
from octo_service.preprocessing.vocabulary import word_vocabulary
from octo_service.preprocessing.vocabulary_files import json_tokenizer
from octo_service.training.architecture import CameraSource, Merged, Robot, chosen_cameras, describe, merge, policy_for
from octo_service.training.augmentation import PRIMARY, WRIST
from octo_service.training.batches import Batches, Sampling
from octo_service.training.fit import Fit
from octo_service.training.free_memory import free_bytes
from octo_service.training.instructions import embeddings, let_text_encoder_train, trains_text_encoder
from octo_service.training.memory import Step, fitting_micro_batch
from octo_service.training.optimizer import FROZEN_KEYS, Optimizer, create_optimizer
from octo_service.training.recipe import Recipe
from octo_service.training.recordings import Recordings, all_episodes, dataset_statistics, held_out, prepared
from octo_service.training.trainer import Trainer
from vla_server_base.commands.progress import progress
from vla_server_base.datasets import EpisodeDataset, Keys, RecordedEpisode
from vla_server_base.datasets.open import open_dataset

OCTO_ACTION_DIM, GRIPPER = 7, -1
WARMUP_STEPS = 2000
AS_MUCH_AS_FITS = Fit()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a recipe comes to before the first step.

    `checkpoint` is the policy to be trained, with its first parameters. `held_out` are batches of the episodes that
    are not trained on, None where none are kept.
    """

    checkpoint: Checkpoint
    trainer: Trainer
    batches: Batches
    held_out: Batches | None
    report: str


def prepare(recipe: Recipe, cache_dir: Path, episodes_dir: Path, fit: Fit = AS_MUCH_AS_FITS) -> Prepared:
    """Load the policy and the episodes of a recipe, and fit one to the other.

    Raises:
        TrainingError: they do not go together, or a step does not fit into memory.
        OctoError, DatasetError: one of them cannot be read.
    """
    keys = Keys(action=recipe.action_key, state=recipe.state_key)
    datasets = [open_dataset(folder, keys) for folder in recipe.data]
    model = OctoModel.load_pretrained(recipe.source, tokenizer=recipe.tokenizer, cache_dir=cache_dir)
    cameras = _cameras(recipe, datasets[0], model)
    episodes = _episodes(recipe, datasets, cameras, episodes_dir)
    is_held_out = held_out(len(episodes), recipe.validation, recipe.seed)
    learned = [episode for episode, is_out in zip(episodes, is_held_out, strict=True) if not is_out]
    unseen = [episode for episode, is_out in zip(episodes, is_held_out, strict=True) if is_out]
    statistics = _statistics(recipe, learned, model)
    robot = _robot(recipe, learned[0], tuple(cameras), model)
    config = _config(recipe, model.config, robot, _window(recipe, model))
    octo, optimizer = build_octo(config["model"]), create_optimizer(config["optimizer"])

    texts = sorted({"", *(episode.instruction for episode in episodes)})
    vocabulary, tokenizer = _words(recipe, texts, model)
    tokens = None if tokenizer is None else tokenizer.encode(texts)
    trains_text = trains_text_encoder(config["model"]) and optimizer.trains(t5.EMBEDDING)
    language = tokens if trains_text or tokens is None else embeddings(tokens, model)
    sampling = _sampling(recipe, octo, robot, config["window_size"])
    recordings = Recordings(learned, statistics, texts)
    example = Batches(recordings, tokens, replace(sampling, batch_size=1))[0].arrays
    merged = _parameters(recipe, octo, example, model)
    _check_trained(merged, optimizer, recipe.mode)
    params = {path: leaf for path, leaf in merged.params.items() if trains_text or not path.startswith(t5.ROOT)}
    micro_batch, memory_report = fitting_micro_batch(
        Step(
            octo=octo,
            optimizer=optimizer,
            params=params,
            sample=Batches(recordings, language, replace(sampling, batch_size=1))[0].arrays,
            batch_size=recipe.batch_size,
            averages=recipe.ema_decay is not None,
        ),
        fit,
        free_bytes(),
    )
    unseen_sampling = replace(sampling, seed=recipe.seed + 1, history_dropout=0.0, word_dropout=0.0, augmentations={})
    return Prepared(
        checkpoint=replace(
            model.checkpoint,
            config=config,
            params=merged.params,
            dataset_statistics=statistics,
            example_batch=example,
            step=0,
            vocabulary=vocabulary,
        ),
        trainer=Trainer(octo, params, optimizer, recipe.precision, recipe.ema_decay, micro_batch, fit.remat),
        batches=Batches(recordings, language, sampling),
        held_out=Batches(Recordings(unseen, statistics, texts), language, unseen_sampling) if unseen else None,
        report=f"{_report(recordings, len(unseen), texts, merged, optimizer, params)}\n{memory_report}",
    )


def _words(recipe: Recipe, texts: Sequence[str], model: OctoModel) -> tuple[str | None, TextTokenizer | None]:
    """Return the vocabulary that the checkpoints carry, None if it is the hub's, and the tokenizer that has it.

    From scratch it is that of `recipe.tokenizer`, or one of the words in `texts`.
    """
    options = tokenizer_options(model.config)
    if options is None or not recipe.is_from_scratch:
        return model.checkpoint.vocabulary, model.tokenizer
    if recipe.tokenizer is not None and recipe.tokenizer.suffix != ".json":
        raise TrainingError(f"--tokenizer {recipe.tokenizer}", hint="a policy from scratch takes a tokenizer.json")
    vocabulary = word_vocabulary(texts) if recipe.tokenizer is None else recipe.tokenizer.read_text(encoding="utf-8")
    tokenizer = json_tokenizer(vocabulary, options)
    needed, size = (
        1 + max(row.max() for row in tokenizer.encode(texts)["input_ids"]),
        len(model.checkpoint.params[t5.EMBEDDING]),
    )
    if needed > size:
        raise TrainingError(
            f"the vocabulary has {needed} words or more, the text encoder of {recipe.source} {size}",
            hint="use fewer words, or a larger architecture",
        )
    return vocabulary, tokenizer


def _cameras(recipe: Recipe, dataset: EpisodeDataset, model: OctoModel) -> dict[str, CameraSource]:
    if not len(dataset):
        raise TrainingError(f"{recipe.data[0]} has no episode", hint="record episodes, or give another --data")
    recorded = {name: frames.shape[1:3] for name, frames in dataset[0].images.items()}
    observation = model.example_batch["observation"]
    known = {
        name.removeprefix("image_"): observation[name].shape[2:4]
        for name in model.octo.observation_names(observation)
        if name.startswith("image_")
    }
    return chosen_cameras(recipe.camera, recorded, known)


def _episodes(
    recipe: Recipe, datasets: Sequence[EpisodeDataset], cameras: Mapping[str, CameraSource], folder: Path
) -> list[RecordedEpisode]:
    stores = []
    for source, dataset in zip(recipe.data, datasets, strict=True):
        # What was prepared for other cameras or of other features is of no use.
        chosen = (source, sorted(cameras.items()), recipe.action_key, recipe.state_key)
        name = hashlib.sha256(repr(chosen).encode()).hexdigest()[:16]
        stores.append((str(source), prepared(dataset, cameras, folder / name, _watched)))
    return all_episodes(stores, functools.partial(_labelled, recipe))


def _watched(numbers: range) -> Iterator[int]:
    """Show how many episodes are prepared, of how many there are."""
    if not numbers:
        return
    with progress(numbers.stop, "preparing", "episode", initial=numbers.start) as bar:
        for number in numbers:
            yield number
            bar.update()


def _labelled(recipe: Recipe, episode: RecordedEpisode) -> RecordedEpisode:
    """Return an episode whose actions are the training targets."""
    if recipe.learn == "actions":
        return episode
    if episode.environment_state is None:
        raise TrainingError(f"--learn {recipe.learn}: an episode has none", hint="use episodes recorded in simulation")
    return replace(episode, actions=episode.environment_state)


def _statistics(recipe: Recipe, episodes: Sequence[RecordedEpisode], model: OctoModel) -> dict[str, Any]:
    computed = dataset_statistics(episodes, _raw_dims(recipe, episodes[0]))
    if recipe.statistics == "data":
        return computed
    stored = dict(statistics_of(model.dataset_statistics, None))
    for name in ("action", "proprio"):
        if name in computed and len(stored.get(name, {}).get("mean", ())) != len(computed[name]["mean"]):
            raise TrainingError(
                f"--statistics checkpoint: its {name} is not the one of the dataset", hint="use --statistics data"
            )
    return stored


def _raw_dims(recipe: Recipe, episode: RecordedEpisode) -> tuple[int, ...]:
    action_dim = episode.actions.shape[1]
    raw = recipe.raw_actions
    if raw is None:
        return (GRIPPER,) if action_dim == OCTO_ACTION_DIM else ()
    if beyond := [number for number in raw if not -action_dim <= number < action_dim]:
        raise TrainingError(
            f"--raw-actions {beyond[0]}: an action of the dataset has {action_dim} numbers",
            hint=f"give 0 to {action_dim - 1}",
        )
    return raw


def _robot(recipe: Recipe, episode: RecordedEpisode, cameras: tuple[str, ...], model: OctoModel) -> Robot:
    if recipe.proprio and episode.proprio is None:
        raise TrainingError(
            "--proprio: not all episodes have observation.state, with as many numbers", hint="name it by --state-key"
        )
    sees_proprio = recipe.proprio or bool(model.octo.observation_names(["proprio"]))
    return Robot(
        cameras=cameras,
        proprio=sees_proprio and episode.proprio is not None,
        action_dim=episode.actions.shape[1],
        horizon=recipe.horizon,
        head=recipe.head,
    )


def _window(recipe: Recipe, model: OctoModel) -> int:
    window = recipe.window or model.example_batch["observation"]["timestep_pad_mask"].shape[1]
    if not 1 <= window <= model.octo.max_horizon:
        raise TrainingError(f"--window {window}", hint=f"this policy takes 1 to {model.octo.max_horizon} observations")
    return window


def _config(recipe: Recipe, stored: Mapping[str, Any], robot: Robot, window: int) -> dict[str, Any]:
    """Return the checkpoint's config, changed: for the robot, and to the optimizer of this run."""
    config = copy.deepcopy(dict(stored))
    config["model"] = policy_for(robot, config["model"])
    config["window_size"] = window
    # As in the reference, what a checkpoint was trained without stays frozen when it is trained further.
    frozen = (config.get("optimizer") or {}).get("frozen_keys", FROZEN_KEYS["full"])
    if recipe.is_from_scratch:
        let_text_encoder_train(config["model"])
        frozen = ()
    config["optimizer"] = _optimizer_options(recipe, tuple(frozen))
    return config


def _optimizer_options(recipe: Recipe, frozen_keys: tuple[str, ...]) -> dict[str, Any]:
    """Return `config["optimizer"]` of the checkpoints; `frozen_keys` are those of the one to start from."""
    warmup = min(WARMUP_STEPS, recipe.steps // 10) if recipe.warmup_steps is None else recipe.warmup_steps
    rate: dict[str, Any] = {"name": recipe.schedule, "peak_value": recipe.learning_rate, "warmup_steps": warmup}
    if recipe.schedule == "cosine":
        rate |= {"decay_steps": recipe.steps, "end_value": recipe.final_learning_rate}
    if recipe.mode == "frozen_transformer":
        frozen_keys = (*frozen_keys, "*BlockTransformer_0*")
    elif recipe.mode != "full":
        frozen_keys = FROZEN_KEYS[recipe.mode]
    return {
        "learning_rate": rate,
        "weight_decay": recipe.weight_decay,
        "clip_gradient": recipe.clip_gradient,
        "frozen_keys": list(frozen_keys),
    }


def _sampling(recipe: Recipe, octo: Octo, robot: Robot, window: int) -> Sampling:
    tokenizers = octo.observation_tokenizers.values()
    takes_goals = any(isinstance(tokenizer, ImageTokenizer) and tokenizer.task_stack_keys for tokenizer in tokenizers)
    augmentations = {name: WRIST if "wrist" in name else PRIMARY for name in robot.cameras}
    return Sampling(
        batch_size=recipe.batch_size,
        window=window,
        horizon=octo.heads["action"].action_horizon,
        seed=recipe.seed,
        cameras=robot.cameras,
        proprio=robot.proprio,
        keep_image_prob=recipe.keep_image_prob if takes_goals else 0.0,
        history_dropout=recipe.history_dropout,
        word_dropout=recipe.word_dropout,
        augmentations=augmentations if recipe.augment else {},
    )


def _parameters(recipe: Recipe, octo: Octo, example: Mapping[str, Any], model: OctoModel) -> Merged:
    stored = model.checkpoint.params
    sizes = t5.sizes_of({path: leaf.shape for path, leaf in stored.items()})
    shapes = expected_shapes(octo, example, sizes)
    if recipe.is_from_scratch:
        architecture, _ = architecture_named(recipe.source)
        return merge(shapes, {}, recipe.seed, architecture.position_deviation)
    return merge(shapes, stored, recipe.seed)


def _check_trained(merged: Merged, optimizer: Optimizer, mode: str) -> None:
    if untrained := [path for path in merged.new if not optimizer.trains(path)]:
        raise TrainingError(
            f"--mode {mode} would not train {len(untrained)} new parameters ({untrained[0]}, ...)",
            hint="train them with --mode full, or frozen_transformer",
        )


def _report(
    recordings: Recordings,
    num_unseen: int,
    texts: Sequence[str],
    merged: Merged,
    optimizer: Optimizer,
    params: Mapping[str, np.ndarray],
) -> str:
    count = sum(leaf.size for leaf in merged.params.values())
    trained = sum(leaf.size for path, leaf in params.items() if optimizer.trains(path))
    return (
        f"{len(recordings.lengths)} episodes of {len(recordings)} timesteps to train on, {num_unseen} held out, "
        f"{len(texts) - ('' in texts)} instructions\n{describe(merged)}\n"
        f"{count / 1e6:.2f} M parameters, of which {trained / 1e6:.2f} M are trained"
    )
