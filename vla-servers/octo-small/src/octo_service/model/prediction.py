"""One prediction in its steps: embed the text, read out the transformer, draw noise, form the chunk."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from octo_service.errors import InputError
from octo_service.model import Precision, t5
from octo_service.model.heads import ActionHead, ContinuousHead, DiffusionHead, DiscreteHead
from octo_service.model.heads.guidance import Guide
from octo_service.model.noise import diffusion_noise, gumbel_noise
from octo_service.model.octo import Octo
from octo_service.model.parameters import Leaves, stored
from octo_service.model.tokens import Arrays, TokenGroup

# (x_T, z) of a diffusion head, the Gumbel noise of a discrete one, None if the head does not sample.
Noise = Any


def embed_text(
    sizes: t5.T5Sizes, leaves: Leaves, rows: Array, attention_mask: Array
) -> Float[Array, "batch tokens dim"]:
    """Run the text encoder on the rows of its embedding table."""
    place = stored(leaves) / "octo_transformer" / "task_tokenizers_language" / "hf_model"
    return t5.encode(place, rows, attention_mask, sizes)


def run_transformer(
    octo: Octo, leaves: Leaves, observations: Arrays, tasks: Arrays, timestep_pad_mask: Array
) -> dict[str, TokenGroup]:
    """Return the embeddings of every token group."""
    return octo.run_transformer(stored(leaves), observations, tasks, timestep_pad_mask)


def read_out(octo: Octo, leaves: Leaves, observations: Arrays, tasks: Arrays, timestep_pad_mask: Array) -> TokenGroup:
    """Return the embeddings that the action head reads; nothing else leaves the device."""
    outputs = run_transformer(octo, leaves, observations, tasks, timestep_pad_mask)
    return outputs[octo.heads["action"].readout_key]


def predict_chunk(
    head: ActionHead,
    leaves: Leaves,
    readout: TokenGroup,
    noise: Noise,
    temperature: float | Array,
    embodiment_action_dim: Int[Array, "*rows"],
    guide: Guide | None = None,
) -> Float[Array, "*samples batch horizon action_dim"]:
    """Return the normalized chunk of the window's last timestep.

    Noise is of the whole window, as the reference draws it; only its last timestep matters. A diffusion head can be
    guided, so that the chunk continues another one.
    """
    place = stored(leaves) / "heads_action"
    readout = TokenGroup(readout.tokens[:, -1:], readout.mask[:, -1:])
    if isinstance(head, DiffusionHead):
        x_T, z = noise
        embedding = head.embed(place, readout)[:, -1]
        return head.sample(place, embedding, x_T[..., -1, :], z[..., -1, :], embodiment_action_dim, guide)
    output = head(place, readout)[:, -1]
    return head.sample(output, noise, temperature) if isinstance(head, DiscreteHead) else output


def draw_noise(
    head: ActionHead,
    rng: Array | None,
    batch_and_window: tuple[int, ...],
    sample_shape: tuple[int, ...] = (),
    argmax: bool = False,
) -> Noise:
    """Draw what the reference draws for the same key; None if the head does not sample.

    Raises:
        InputError: the head samples and there is no key.
    """
    if isinstance(head, ContinuousHead) or (isinstance(head, DiscreteHead) and argmax):
        return None
    if rng is None:
        raise InputError("this head samples and has no noise", hint="pass rng=jax.random.PRNGKey(seed), or noise")
    numbers = (head.action_horizon, head.action_dim)
    if isinstance(head, DiscreteHead):
        # The samples are drawn in one piece, as the reference's distribution does for every sample shape.
        shape = (int(np.prod(sample_shape)), batch_and_window[0], *numbers, head.vocab_size)
        return gumbel_noise(rng, shape).reshape(*sample_shape, *shape[1:])
    return diffusion_noise(rng, (*sample_shape, *batch_and_window, int(np.prod(numbers))), head.diffusion_steps)


def compiled(function: Any, precision: Precision = "highest", **options: Any) -> Any:
    """Compile for the device; at the highest precision every product stays float32 on a GPU, too."""

    def precise(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("float32" if precision == "highest" else "default"):
            return function(*args, **kwargs)

    return jax.jit(precise, **options)


def on_device(leaves: Leaves) -> Leaves:
    """Copy parameters to the device as float32, from any dtype and place: a file may be mapped."""
    # They stay on the device, even if they are first used while a program is being compiled.
    with jax.ensure_compile_time_eval():
        return jax.tree_util.tree_map(lambda leaf: jnp.array(leaf, np.float32), leaves)


def on_host(leaves: Leaves) -> Leaves:
    """Return the device's parameters as numpy arrays; on a CPU these are views."""
    return jax.tree_util.tree_map(np.asarray, leaves)
