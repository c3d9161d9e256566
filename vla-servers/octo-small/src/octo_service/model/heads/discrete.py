"""The head that predicts binned actions.

Follows DiscreteActionHead of octo/model/components/action_heads.py.
"""

from dataclasses import dataclass

from jaxtyping import Array, Float, Int

from octo_service.errors import ModelConfigError
from octo_service.model.bins import bin_thresholds, bin_tokens, bin_values
from octo_service.model.parameters import Parameters
from octo_service.model.tokens import TokenGroup
from octo_service.model.transformer import attention_pool, dense


@dataclass(frozen=True, kw_only=True)
class DiscreteHead:
    """Predict logits over `vocab_size` bins for each number of the chunk. Fields are the config's."""

    readout_key: str
    use_map: bool = False
    token_per: str = "action_dim_and_action_horizon"
    action_horizon: int = 1
    action_dim: int = 7
    vocab_size: int = 256
    normalization_type: str = "uniform"

    def __call__(
        self, parameters: Parameters, readout: TokenGroup
    ) -> Float[Array, "batch window horizon action_dim bins"]:
        """Return the logits at every timestep of the window."""
        tokens = readout.tokens
        if self.use_map:
            tokens = attention_pool(parameters / "map_head", tokens, readout.mask, self._num_tokens)
        if tokens.shape[-2] != self._num_tokens:
            raise ModelConfigError(
                f"a discrete head with token_per='{self.token_per}' needs {self._num_tokens} tokens, "
                f"but '{self.readout_key}' has {tokens.shape[-2]}",
                hint="take config.json and parameters from the same training run",
            )
        numbers = self.action_horizon * self.action_dim * self.vocab_size
        logits = dense(parameters / "vocab_proj", tokens, numbers // self._num_tokens)
        return logits.reshape(*logits.shape[:2], self.action_horizon, self.action_dim, self.vocab_size)

    def sample(
        self,
        logits: Float[Array, "batch horizon action_dim bins"],
        gumbel: Float[Array, "*samples batch horizon action_dim bins"] | None,
        temperature: float | Array,
    ) -> Float[Array, "*samples batch horizon action_dim"]:
        """Sample by the Gumbel-max trick; without `gumbel` take the likeliest bin."""
        if gumbel is not None:
            logits = logits / temperature + gumbel
        return self.actions(logits.argmax(-1))

    def labels(self, actions: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
        """Return the bins of normalized actions, which training teaches."""
        return bin_tokens(actions, self.vocab_size, self.normalization_type, 0, 1)

    def actions(self, labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Return the normalized actions in the middle of bins."""
        return bin_values(labels, bin_thresholds(self.vocab_size, self.normalization_type, 0, 1))

    @property
    def _num_tokens(self) -> int:
        counts = {
            "": 1,
            "action_horizon": self.action_horizon,
            "action_dim_and_action_horizon": self.action_horizon * self.action_dim,
        }
        if self.token_per not in counts:
            raise ModelConfigError(f"token_per='{self.token_per}' is not known", hint=f"known: {list(counts)}")
        return counts[self.token_per]
