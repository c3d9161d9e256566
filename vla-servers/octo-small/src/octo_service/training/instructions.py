"""What a task's words become before a run: token ids, or embeddings where the text encoder is not trained."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from octo_service.model import OctoModel

# Texts that the encoder embeds at once, so that one program serves any number of texts.
GROUP = 16


def embeddings(tokens: Mapping[str, np.ndarray], model: OctoModel) -> Float32[np.ndarray, "texts tokens dim"]:
    """Return the text encoder's embeddings, which are 48 KiB a text with T5-base."""
    count = len(tokens["input_ids"])
    padding = -count % GROUP
    padded = {name: np.pad(rows, ((0, padding), (0, 0))) for name, rows in tokens.items()}
    groups = [{name: rows[start : start + GROUP] for name, rows in padded.items()} for start in range(0, count, GROUP)]
    return np.concatenate([np.asarray(model.embed_text(**group)) for group in groups])[:count]


def let_text_encoder_train(model_config: Mapping[str, Any]) -> None:
    """Change an architecture so that the loss reaches its text encoder."""
    for spec in model_config["task_tokenizers"].values():
        if spec["kwargs"].get("encoder"):
            spec["kwargs"]["finetune_encoder"] = True


def trains_text_encoder(model_config: Mapping[str, Any]) -> bool:
    """Say whether an architecture lets the loss reach its text encoder."""
    return any(spec["kwargs"].get("finetune_encoder") for spec in model_config["task_tokenizers"].values())
