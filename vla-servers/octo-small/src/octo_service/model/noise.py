"""The reference's noise, bit for bit, on every JAX and every device.

Two things changed since JAX 0.4.20: random bits became partitionable, which gives other numbers for the same key
(the older layout stays available behind a switch), and the compiler's log1p, which moves one normal number in
three thousand by its last bit. Normals are therefore formed from uniform bits by the older formula, on the host.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float32, Int32, UInt32

# Two numbers, as jax.random.PRNGKey makes them, on the host or on a device.
Key = Array | np.ndarray

# The uniform numbers that become normal ones: as close to ±1 as float32 allows.
LOWEST = np.nextafter(np.float32(-1), np.float32(0))

# log1p near zero is x - x²/2 + x³ P(x) / Q(x) (Cephes, unity.c), elsewhere log(1 + x).
# Coefficients stand from the highest power down.
_LOG1P_NEAR = np.float32(0.41421356237309504880)
_LOG1P_P = (
    4.5270000862445199635215e-5,
    4.9854102823193375972212e-1,
    6.5787325942061044846969e0,
    2.9911919328553073277375e1,
    6.0949667980987787057556e1,
    5.7112963590585538103336e1,
    2.0039553499201281259648e1,
)
_LOG1P_Q = (
    1.0,
    1.5062909083469192043167e1,
    8.3047565967967209469434e1,
    2.2176239823732856465394e2,
    3.0909872225312059774938e2,
    2.1642788614495947685003e2,
    6.0118660497603843919306e1,
)
# The inverse error function of Giles (2010), "Approximating the erfinv function", table 5: centre and tails.
_ERFINV_CENTRE = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_ERFINV_TAILS = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def diffusion_noise(
    rng: Array, shape: tuple[int, ...], steps: int
) -> tuple[Float32[np.ndarray | Array, "*shape"], Float32[np.ndarray | Array, "steps *shape"]]:
    """Draw (x_T, z): where sampling starts, and each step's noise in the order of the steps.

    `shape` is (*samples, batch, window, numbers), as DiffusionActionHead.predict_action of the reference has it:
    the whole window's noise is drawn although only its last timestep is used.
    """
    numbers = _normal(_uniform_chain(rng, shape, steps + 1))
    return numbers[0], numbers[1:]


def training_noise(
    rng: Key, shape: tuple[int, ...], steps: int
) -> tuple[Int32[np.ndarray, "*times"], Float32[np.ndarray, "*shape"]]:
    """Draw what a diffusion head learns to undo: after how many steps, 0 to `steps - 1`, and the noise itself.

    `shape` is (n_diffusion_samples, batch, window, numbers), as DiffusionActionHead.loss of the reference has it;
    `rng` is the key of the step, from which the head's own comes.
    """
    time, uniform = _time_and_uniform(rng, shape, steps)
    return np.asarray(time), np.asarray(_normal(uniform))


def module_key(rng: Key, path: str) -> Array:
    """Return the key that flax gives the module at `path` ("heads_action/map_head") for its only draw."""
    digest = hashlib.sha1(path.replace("/", "").encode() + b"\x01").digest()
    return jax.random.fold_in(rng, np.uint32(int.from_bytes(digest[:4], "big")))


def next_key(rng: Key) -> tuple[UInt32[np.ndarray, "2"], UInt32[np.ndarray, "2"]]:
    """Split a training run's key into the next one and the one of this step."""
    return tuple(np.asarray(_split(rng)))


def gumbel_noise(rng: Array, shape: tuple[int, ...]) -> Float32[Array, "*shape"]:
    """Draw the noise with which a discrete head samples (distrax.Categorical of the reference)."""
    return _gumbel(rng, shape)


def _as_the_reference_draws(draw: Callable) -> Callable:
    @functools.wraps(draw)
    def wrapped(rng: Key, *args):
        if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
            rng = jax.random.key_data(rng)
        with jax.threefry_partitionable(False):
            if isinstance(rng, Tracer):
                return draw(rng, *args)
            with jax.default_device(jax.local_devices(backend="cpu")[0]):  # a GPU's log differs in the last bit
                return draw(np.asarray(rng), *args)

    return wrapped


@_as_the_reference_draws
@functools.partial(jax.jit, static_argnums=(1, 2))
def _uniform_chain(rng: Array, shape: tuple[int, ...], count: int) -> Array:
    def draw(key: Array, _: None) -> tuple[Array, Array]:
        key, step_key = jax.random.split(key)
        return key, jax.random.uniform(step_key, shape, minval=LOWEST, maxval=1.0)

    return jax.lax.scan(draw, rng, None, length=count)[1]


@_as_the_reference_draws
@functools.partial(jax.jit, static_argnums=(1, 2))
def _time_and_uniform(rng: Key, shape: tuple[int, ...], steps: int) -> tuple[Array, Array]:
    time_key, noise_key = jax.random.split(module_key(rng, "heads_action"))
    time = jax.random.randint(time_key, (*shape[:-1], 1), 0, steps)
    return time, jax.random.uniform(noise_key, shape, minval=LOWEST, maxval=1.0)


@_as_the_reference_draws
@jax.jit
def _split(rng: Key) -> Array:
    return jax.random.split(rng)


@_as_the_reference_draws
@functools.partial(jax.jit, static_argnums=(1,))
def _gumbel(rng: Array, shape: tuple[int, ...]) -> Array:
    uniform = jax.random.uniform(rng, shape, minval=jnp.finfo(jnp.float32).tiny, maxval=1.0)
    return -jnp.log(-jnp.log(uniform))


def _normal(uniform: Float32[Array, "*shape"]) -> Float32[np.ndarray | Array, "*shape"]:
    """Map uniform numbers in (-1, 1) to normal ones: sqrt(2) erfinv(u)."""
    if isinstance(uniform, Tracer):
        # In a program of somebody else's, the compiler's own formula has to do: the last bits differ.
        return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)
    return _normal_on_host(np.asarray(uniform))


def _normal_on_host(uniform: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    w = -_log1p(-(uniform * uniform))
    centre = w < 5
    x = np.where(centre, w - np.float32(2.5), np.sqrt(w) - np.float32(3))
    value = np.where(centre, _polynomial(_ERFINV_CENTRE, x), _polynomial(_ERFINV_TAILS, x))
    return np.float32(np.sqrt(2)) * (value * uniform)


def _log1p(x: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    squared = x * x
    ratio = _polynomial(_LOG1P_P, x) / _polynomial(_LOG1P_Q, x)
    near = x + _multiply_add(x * squared, ratio, np.float32(-0.5) * squared)
    return np.where(np.abs(x) < _LOG1P_NEAR, near, _log(np.float32(1) + x))


def _log(x: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return np.asarray(jnp.log(x))


def _polynomial(coefficients: Sequence[float], x: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    value = np.full_like(x, np.float32(coefficients[0]))
    for coefficient in coefficients[1:]:
        value = _multiply_add(value, x, np.float32(coefficient))
    return value


def _multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray | np.float32) -> np.ndarray:
    """Return a·b + c rounded once, as a processor's fused instruction does: float64 holds a·b exactly."""
    return (a.astype(np.float64) * b.astype(np.float64) + np.float64(c)).astype(np.float32)
