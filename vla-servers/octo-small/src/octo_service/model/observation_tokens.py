"""One timestep's observation as tokens: the image stems without their goals' part, which is computed once a task."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from octo_service.model.block_layout import BlockLayout
from octo_service.model.image_stem import SmallStem, StemWeights
from octo_service.model.kv_cache import Block
from octo_service.model.octo import Octo
from octo_service.model.parameters import Leaves, stored
from octo_service.model.tokens import Arrays, ImageTokenizer, TokenGroup


@dataclass(frozen=True, kw_only=True)
class ObservationTokens:
    """One timestep's tokens by group, (tokens, dim) each, before they get the positions of a place in the window."""

    groups: Mapping[str, Float[Array, "tokens dim"]]


def stem_weights(octo: Octo, leaves: Leaves) -> dict[str, StemWeights]:
    """Return the weights of every stem that can encode a goal apart from the camera's image, by tokenizer."""
    weights = {}
    for name, tokenizer in octo.observation_tokenizers.items():
        if isinstance(tokenizer, ImageTokenizer) and tokenizer.plain_stem is not None:
            path = f"octo_transformer/observation_tokenizers_{name}/{tokenizer.encoder_name}_0/"
            kernel = leaves.single.get(f"{path}StdConv_0/kernel")
            if kernel is not None:  # a camera that the checkpoint was trained without has no weights
                weights[name] = tokenizer.plain_stem.weights(stored(leaves) / path.rstrip("/"), kernel.shape[2])
    return weights


def goal_features(octo: Octo, weights: StemWeights, observation: Arrays, tasks: Arrays, name: str) -> Array:
    """Return what the first layer of the stem of tokenizer `name` makes of the task's goal."""
    return _plain(octo, name)[0].goal_features(weights, observation, tasks)


def observation_groups(
    octo: Octo,
    leaves: Leaves,
    stems: Mapping[str, StemWeights],
    goals: Mapping[str, Array],
    observation: Arrays,
    tasks: Arrays,
    names: tuple[str, ...],
) -> dict[str, Array]:
    """Return the token groups of an observation, of the tokenizers `names`; `goals` are the goal features of stems."""
    octo = replace(octo, observation_tokenizers={name: octo.observation_tokenizers[name] for name in names})
    tokenized = {}
    for name, features_of_goal in goals.items():
        images, stem = _plain(octo, name)
        features = stem.encode(stems[name], images.pixels(observation)[0], features_of_goal)
        tokens = features.reshape(1, 1, -1, features.shape[-1])
        tokenized[name] = TokenGroup(tokens, jnp.ones(tokens.shape[:-1], bool))
    groups = octo.observation_groups(stored(leaves) / "octo_transformer", observation, tasks, tokenized)
    return {name: group.tokens[0, 0] for name, group in groups.items()}


def task_groups(octo: Octo, leaves: Leaves, tasks: Arrays) -> dict[str, Array]:
    """Return the token groups of a task, with their positions."""
    groups = octo.task_groups(stored(leaves) / "octo_transformer", {}, tasks)
    return {name: group.tokens[0] for name, group in groups.items()}


def positioned_block(
    octo: Octo,
    leaves: Leaves,
    observed: Mapping[str, Array],
    repeated: Mapping[str, Array],
    position: int,
    layout: BlockLayout,
) -> Block:
    """Lay a timestep's groups side by side, at their place in the window."""
    place = stored(leaves) / "octo_transformer"

    def positions(name: str, num_tokens: int) -> Array:
        return octo.positions(place, name, num_tokens)[0, position]

    observed = in_order(octo.observation_tokenizers, "obs", observed)
    repeated = in_order(octo.task_tokenizers, "obs_task", repeated)
    placed = [group + positions(name, len(group)) for name, group in observed.items()]
    readouts = [positions(f"readout_{name}", size) for name, size in octo.readouts.items()]
    padding = [] if observed else [jnp.zeros((1, octo.token_embedding_size), jnp.float32)]
    tokens = jnp.concatenate([*padding, *placed, *repeated.values(), *readouts])
    return Block(tokens[np.array(layout.tokens, int)], tokens[np.array(layout.readouts, int)])


def in_order(names: Iterable[str], kind: str, groups: Mapping[str, Array]) -> dict[str, Array]:
    """Return groups in the order of the config; a compiled program returns them in the order of their names."""
    ordered = [f"{kind}_{name}" for name in names]
    return {name: groups[name] for name in ordered if name in groups}


def _plain(octo: Octo, name: str) -> tuple[ImageTokenizer, SmallStem]:
    tokenizer = octo.observation_tokenizers[name]
    assert isinstance(tokenizer, ImageTokenizer)
    assert tokenizer.plain_stem is not None
    return tokenizer, tokenizer.plain_stem
