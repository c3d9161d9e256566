"""The reference's noise, bit for bit, on every JAX.

JAX draws other numbers for the same key since its random bits became partitionable; the reference's are those of
the older layout, which stays available behind a switch.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _original_layout(draw: Callable) -> Callable:
    @functools.wraps(draw)
    def wrapped(rng: Array, *args):
        if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
            rng = jax.random.key_data(rng)
        with jax.threefry_partitionable(False):
            return draw(rng, *args)

    return wrapped


@_original_layout
@functools.partial(jax.jit, static_argnums=(1, 2))
def diffusion_noise(
    rng: Array, shape: tuple[int, ...], steps: int
) -> tuple[Float[Array, "*shape"], Float[Array, "steps *shape"]]:
    """Draw (x_T, z): where sampling starts, and each step's noise in the order of the steps.

    `shape` is (*samples, batch, window, numbers), as DiffusionActionHead.predict_action of the reference has it:
    the whole window's noise is drawn although only its last timestep is used.
    """

    def draw(key: Array, _: None) -> tuple[Array, Array]:
        key, own = jax.random.split(key)
        return key, jax.random.normal(own, shape)

    key, x_T = draw(rng, None)
    _, z = jax.lax.scan(draw, key, None, length=steps)
    return x_T, z


@_original_layout
@functools.partial(jax.jit, static_argnums=(1,))
def gumbel_noise(rng: Array, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Draw the noise with which a discrete head samples (distrax.Categorical of the reference)."""
    uniform = jax.random.uniform(rng, shape, minval=jnp.finfo(jnp.float32).tiny, maxval=1.0)
    return -jnp.log(-jnp.log(uniform))
