"""The diffusion head of the released checkpoints: a small MLP denoises the chunk in 20 steps.

Follows DiffusionActionHead of octo/model/components/action_heads.py and diffusion.py beside it (DDPM, Ho et al. 2020,
with the cosine schedule of Nichol and Dhariwal 2021).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from octo_service.model.heads.continuous import pool_readout
from octo_service.model.heads.guidance import Guide, guided_noise
from octo_service.model.parameters import Parameters
from octo_service.model.tokens import TokenGroup
from octo_service.model.transformer import dense, layer_norm


def cosine_betas(steps: int) -> Float[np.ndarray, " steps"]:
    """Return the variance added at each step, in float32 arithmetic as the reference has it."""
    t = np.arange(steps + 1, dtype=np.float32) / np.float32(steps)
    kept = np.cos((t + np.float32(0.008)) / np.float32(1.008) * np.float32(np.pi / 2)) ** 2
    kept = kept / kept[0]
    return np.clip(1 - kept[1:] / kept[:-1], 0, np.float32(0.999))


@dataclass(frozen=True, kw_only=True)
class DiffusionHead:
    """Denoise a chunk from noise, given the readout's embedding. Fields are the config's."""

    readout_key: str
    use_map: bool = False
    action_horizon: int = 1
    action_dim: int = 7
    max_action: float = 5.0
    loss_type: str = "mse"
    time_dim: int = 32
    num_blocks: int = 3
    dropout_rate: float = 0.0
    hidden_dim: int = 256
    use_layer_norm: bool = True
    diffusion_steps: int = 20
    n_diffusion_samples: int = 1

    def embed(self, parameters: Parameters, readout: TokenGroup) -> Float[Array, "batch window dim"]:
        """Return what the denoiser is conditioned on, at every timestep of the window."""
        return pool_readout(parameters, readout, self.use_map)

    def predict_noise(
        self,
        parameters: Parameters,
        embedding: Float[Array, "*batch dim"],
        noisy: Float[Array, "*batch numbers"],
        time: Float[Array, "*batch 1"],
    ) -> Float[Array, "*batch numbers"]:
        """Predict the noise in a chunk after `time` steps of noising (0 .. diffusion_steps - 1)."""
        place = parameters / "diffusion_model"
        given = jnp.concatenate([self._encode_time(place, time), embedding, noisy], axis=-1)
        return self._denoise(
            place, dense(place / "reverse_network" / "Dense_0", given, self.hidden_dim), noisy.shape[-1]
        )

    def _encode_time(self, place: Parameters, time: Float[Array, "*batch 1"]) -> Float[Array, "*batch time_dim"]:
        frequencies = (place / "time_preprocess").get("kernel", self.time_dim // 2, 1)
        phase = 2 * jnp.pi * time @ frequencies.T
        encoder = place / "cond_encoder"
        time = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)
        time = jax.nn.silu(dense(encoder / "Dense_0", time, 2 * self.time_dim))
        return dense(encoder / "Dense_1", time, self.time_dim)

    def _denoise(self, place: Parameters, x: Float[Array, "*batch hidden"], num_numbers: int) -> Array:
        """Take the first layer's output through the residual blocks to the noise predicted."""
        network = place / "reverse_network"
        for block in range(self.num_blocks):
            layers = network / f"MLPResNetBlock_{block}"
            y = layers.dropout("Dropout_0", x, self.dropout_rate, batch_axis=-3)
            y = layer_norm(layers / "LayerNorm_0", y) if self.use_layer_norm else y
            y = jax.nn.silu(dense(layers / "Dense_0", y, 4 * self.hidden_dim))
            x = x + dense(layers / "Dense_1", y, self.hidden_dim)
        return dense(network / "Dense_1", jax.nn.silu(x), num_numbers)

    def sample(
        self,
        parameters: Parameters,
        embedding: Float[Array, "batch dim"],
        x_T: Float[Array, "*samples batch numbers"],
        z: Float[Array, "steps *samples batch numbers"],
        embodiment_action_dim: Int[Array, "*rows"],
        guide: Guide | None = None,
    ) -> Float[Array, "*samples batch horizon action_dim"]:
        """Denoise from `x_T` with the noise `z[i]` of the i-th step (ancestral sampling, clipped at each step).

        Dimensions from `embodiment_action_dim` on, of all rows or of each, are kept at the noise that training showed
        there. With a `guide` the chunk continues another one.
        """
        betas = cosine_betas(self.diffusion_steps)
        alphas = 1 - betas
        alpha_hats = np.cumprod(alphas)
        is_used = jnp.arange(x_T.shape[-1]) % self.action_dim < embodiment_action_dim[..., None]
        place = parameters / "diffusion_model"
        first = place / "reverse_network" / "Dense_0"
        kernel = first.get("kernel", self.time_dim + embedding.shape[-1] + x_T.shape[-1], self.hidden_dim)
        # The first layer's share of the time and the embedding does not depend on the noise.
        for_time, for_embedding, for_noisy = jnp.split(kernel, np.cumsum([self.time_dim, embedding.shape[-1]]))
        fixed = embedding @ for_embedding + first.get("bias", self.hidden_dim)

        def denoise(x: Array, step: dict[str, Array]) -> tuple[Array, None]:
            def predict_noise(x: Array) -> Array:
                return self._denoise(place, x @ for_noisy + (fixed + step["time"]), x.shape[-1])

            if guide is None:
                noise = predict_noise(x)
            else:
                noise = guided_noise(predict_noise, x, step["kept"], guide, self.max_action)
            x = (x - step["noise_scale"] * noise) * step["scale"] + step["spread"] * step["z"]
            x = jnp.clip(x, -self.max_action, self.max_action)
            return jnp.where(is_used, x, step["masked"] * step["z"]), None

        times = np.arange(self.diffusion_steps)
        steps = {
            "time": self._encode_time(place, jnp.asarray(times[:, None], jnp.float32)) @ for_time,
            "scale": 1 / np.sqrt(alphas),
            "noise_scale": (1 - alphas) / np.sqrt(1 - alpha_hats),
            "spread": np.where(times > 0, np.sqrt(betas), np.float32(0)),
            "masked": np.sqrt(1 - alpha_hats),
        }
        if guide is not None:
            steps["kept"] = alpha_hats
        backwards = {name: jnp.asarray(values[::-1]) for name, values in steps.items()}
        x, _ = jax.lax.scan(denoise, x_T, {**backwards, "z": z})
        return x.reshape(*x.shape[:-1], self.action_horizon, self.action_dim)
