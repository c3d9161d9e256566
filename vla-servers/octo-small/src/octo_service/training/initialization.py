"""Parameters before any training, drawn as the reference's layers draw them.

Follows octo/model/components (transformer.py, diffusion.py, film_conditioning_layer.py, vit_encoders.py,
tokenizers.py) and `_create_positional_embedding` of octo_module.py; what they leave to flax 0.7.5 is
flax/linen/linear.py's (lecun_normal, `DenseGeneral.kernel_init_wrap`), and the text encoder is
modeling_flax_t5.py's of transformers with its initializer_factor of 1.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float32

from octo_service.model.parameters import Shapes
from octo_service.model.t5 import ROOT, T5Sizes, sizes_of

Shape = tuple[int, ...]
Leaf = Float32[np.ndarray, "..."]
Draw = Callable[[np.random.Generator, Shape], Leaf]

# The deviation of a standard normal distribution cut off at two deviations, as jax.nn.initializers has it.
CUT_DEVIATION = 0.87962566103423978

POSITION_DEVIATION = 0.02


def initial_leaves(shapes: Shapes, seed: int, position_deviation: float = POSITION_DEVIATION) -> dict[str, Leaf]:
    """Draw every leaf by its path; each has its own generator, so that one more changes no other."""
    rules = _rules(sizes_of(shapes), position_deviation)
    return {path: _rule_for(path, rules)(_generator(seed, path), shape) for path, shape in shapes.items()}


def _generator(seed: int, path: str) -> np.random.Generator:
    return np.random.default_rng([seed, *path.encode()])


def _rule_for(path: str, rules: Mapping[str, Draw]) -> Draw:
    return next(draw for pattern, draw in rules.items() if re.search(pattern, path))


def _rules(text: T5Sizes | None, position_deviation: float) -> dict[str, Draw]:
    """Return how leaves are drawn, by a pattern of their paths; the first that is found in a path counts."""
    return {
        **({} if text is None else _text_rules(text)),
        # The last norm of a residual unit: at first the unit hands on what comes in.
        r"gn3/scale$|FilmConditioning_\d+/": _zeros,
        r"/scale$": _ones,
        r"pos_embed(ding)?$": _normal(position_deviation),
        r"MlpBlock_\d+/Dense_\d+/bias$": _normal(1e-6),
        r"bias$": _zeros,
        r"time_preprocess/kernel$": _normal(0.2),
        # flax flattens the heads before it draws, so that all of them count as outputs, or as inputs.
        r"MultiHeadDotProductAttention_\d+/(query|key|value)/kernel$": _flattened(num_inputs=1),
        r"MultiHeadDotProductAttention_\d+/out/kernel$": _flattened(num_inputs=2),
        r"MlpBlock_\d+/Dense_\d+/kernel$|probe$": _xavier_uniform,
        r"(cond_encoder|reverse_network)/Dense_\d+/kernel$": _xavier_uniform,
        r"kernel$": _lecun_normal,
    }


def _text_rules(sizes: T5Sizes) -> dict[str, Draw]:
    width = sizes.num_heads * sizes.head_dim
    place = re.escape(ROOT)
    return {
        f"{place}.*/weight$": _ones,
        f"{place}shared/embedding$": _normal(1.0),
        f"{place}.*/q/kernel$": _normal((width * sizes.head_dim) ** -0.5),
        f"{place}.*/([kvo]/kernel|relative_attention_bias/embedding)$": _normal(width**-0.5),
        f"{place}.*/wi/kernel$": _normal(sizes.dim**-0.5),
        f"{place}.*/wo/kernel$": _normal(sizes.mlp_dim**-0.5),
    }


def _zeros(random: np.random.Generator, shape: Shape) -> Leaf:
    del random
    return np.zeros(shape, np.float32)


def _ones(random: np.random.Generator, shape: Shape) -> Leaf:
    del random
    return np.ones(shape, np.float32)


def _normal(deviation: float) -> Draw:
    return lambda random, shape: random.standard_normal(shape, np.float32) * np.float32(deviation)


def _lecun_normal(random: np.random.Generator, shape: Shape) -> Leaf:
    """Draw with variance 1 / inputs, cut off at two deviations of the uncut distribution."""
    inputs, _ = _inputs_and_outputs(shape)
    drawn = random.standard_normal(shape, np.float32)
    while np.any(beyond := np.abs(drawn) > 2):
        drawn[beyond] = random.standard_normal(np.count_nonzero(beyond), np.float32)
    return drawn * np.float32(inputs**-0.5 / CUT_DEVIATION)


def _xavier_uniform(random: np.random.Generator, shape: Shape) -> Leaf:
    """Draw with variance 2 / (inputs + outputs) (Glorot and Bengio 2010)."""
    bound = (6 / sum(_inputs_and_outputs(shape))) ** 0.5
    return random.uniform(-bound, bound, shape).astype(np.float32)


def _flattened(num_inputs: int) -> Draw:
    """Draw a kernel whose first `num_inputs` axes are inputs and whose others are outputs."""

    def draw(random: np.random.Generator, shape: Shape) -> Leaf:
        inputs, outputs = np.prod(shape[:num_inputs], dtype=int), np.prod(shape[num_inputs:], dtype=int)
        return _xavier_uniform(random, (int(inputs), int(outputs))).reshape(shape)

    return draw


def _inputs_and_outputs(shape: Shape) -> tuple[int, int]:
    """Count both for the last two axes; those before them are the pixels under a convolution."""
    pixels = int(np.prod(shape[:-2]))
    return pixels * shape[-2], pixels * shape[-1]
