"""Which parameters an architecture has, and of what shapes."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from octo_service.model import t5
from octo_service.model.heads import DiffusionHead
from octo_service.model.octo import Octo
from octo_service.model.parameters import Parameters, Shapes, declared_shapes
from octo_service.model.tokens import Arrays, TokenGroup


def expected_shapes(octo: Octo, example_batch: Mapping[str, Any], t5_sizes: t5.T5Sizes | None) -> Shapes:
    """Return the path and shape of every parameter; like the reference's, they depend on the example batch.

    A tokenizer whose images the example batch lacks has no parameters.
    """
    observations = {key: value[:1] for key, value in _arrays(example_batch["observation"]).items()}
    tasks = {key: value[:1] for key, value in _arrays(example_batch["task"]).items()}
    mask = jnp.ones(example_batch["observation"]["timestep_pad_mask"][:1].shape, bool)
    language = example_batch["task"].get("language_instruction")
    shapes: Shapes = {}
    if isinstance(language, Mapping) and t5_sizes is not None:
        embedded = (1, language["input_ids"].shape[1], t5_sizes.dim)
        tasks["language_instruction"] = np.zeros(embedded, np.float32)
        shapes |= _t5_shapes(embedded, t5_sizes)

    def forward(parameters: Parameters) -> None:
        outputs = octo.run_transformer(parameters, observations, tasks, mask)
        for name, head in octo.heads.items():
            _run_head(head, parameters / f"heads_{name}", outputs[head.readout_key])

    return shapes | declared_shapes(forward)


def _arrays(tree: Arrays) -> dict[str, np.ndarray]:
    return {key: value for key, value in tree.items() if isinstance(value, np.ndarray)}


def _t5_shapes(embedded: tuple[int, ...], sizes: t5.T5Sizes) -> Shapes:
    ids = jnp.ones(embedded[:2], jnp.int32)
    encoder = declared_shapes(lambda place: t5.encode(place, jnp.zeros(embedded, jnp.float32), ids, sizes))
    return {t5.ROOT + path: shape for path, shape in encoder.items()} | {t5.EMBEDDING: (sizes.vocabulary, sizes.dim)}


def _run_head(head: Any, parameters: Parameters, readout: TokenGroup) -> None:
    if isinstance(head, DiffusionHead):
        embedding = head.embed(parameters, readout)
        noisy = jnp.zeros((*embedding.shape[:2], head.action_horizon * head.action_dim), jnp.float32)
        head.predict_noise(parameters, embedding, noisy, jnp.zeros((*embedding.shape[:2], 1), jnp.float32))
    else:
        head(parameters, readout)
