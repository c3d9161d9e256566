"""What policies name on the hub, tiny and made here: tokenizers, SmolVLM, CLIP, Florence-2, PaliGemma's sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
)
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

WIDTH = 16
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
IMAGE_TOKENS = ("fake_image_token", "image_token", "end_of_utterance_token", "global_image_token")
NUM_TOKENS = 256 + len(SPECIAL_TOKENS)
PAD, START, END = range(3)


def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Write a tokenizer of bytes, which needs no vocabulary file, and return it."""
    names = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    of_bytes = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    of_bytes.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=of_bytes,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=dict(zip(IMAGE_TOKENS, SPECIAL_TOKENS[3:], strict=True)),
    )
    made.save_pretrained(folder)
    return made


def smolvlm(folder: Path) -> Path:
    """Write the configuration, the processor and the tokenizer of SmolVLA's VLM, as SmolVLA reads them."""
    layers = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"model_type": "llama", **layers, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": NUM_TOKENS}
    config = {
        "vision_config": {**layers, "image_size": 64, "patch_size": 16},
        "text_config": {**text, "pad_token_id": PAD},
        "scale_factor": 2,
        "image_token_id": SPECIAL_TOKENS.index("<image>"),
    }
    SmolVLMConfig.from_dict(config).save_pretrained(folder)
    parts = {"image_processor": SmolVLMImageProcessor(), "video_processor": SmolVLMVideoProcessor()}
    SmolVLMProcessor(tokenizer=tokenizer(folder), **parts).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """Write a CLIP with its weights, which MultiTaskDiT starts from."""
    layers = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**layers, "vocab_size": NUM_TOKENS, "eos_token_id": END, "bos_token_id": START, "pad_token_id": PAD}
    vision = {**layers, "image_size": 32, "patch_size": 16}
    config = CLIPConfig.from_dict({"text_config": text, "vision_config": vision, "projection_dim": WIDTH})
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    tokenizer(folder)
    return folder


def florence() -> dict[str, Any]:
    """Return the configuration of X-VLA's Florence-2, which stands in the checkpoint's own config.json."""
    text = {
        "model_type": "bart",
        "d_model": WIDTH,
        "vocab_size": NUM_TOKENS,
        "max_position_embeddings": 256,
        **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 2 * WIDTH for part in ("encoder", "decoder")},
        "pad_token_id": PAD,
        "bos_token_id": START,
        "eos_token_id": END,
        "decoder_start_token_id": END,
        "forced_eos_token_id": END,
    }
    vision = {
        "depths": [1, 1, 1, 1],
        "embed_dim": [8, 8, 16, 16],
        "num_heads": [1, 1, 2, 2],
        "num_groups": [1, 1, 2, 2],
        "window_size": 2,
        "projection_dim": WIDTH,
        "drop_path_rate": 0.0,
    }
    return {"text_config": text, "vision_config": vision, "image_token_id": SPECIAL_TOKENS.index("<image>")}


def shrink_pi(modeling: Any, processing: Any, tokenizer_folder: Path) -> None:
    """Make this process build π0 and π0.5 tiny, and with this tokenizer: their code names every size and the hub's."""
    if getattr(modeling, "is_shrunk", False):
        return
    modeling.is_shrunk = True
    expert = modeling.get_gemma_config("gemma_300m")
    small = {"width": WIDTH, "depth": 2, "mlp_dim": 2 * WIDTH, "num_heads": 2, "num_kv_heads": 1, "head_dim": 8}
    modeling.get_gemma_config = lambda variant: type(expert)(**small)
    for name in ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM"):
        setattr(modeling, name, _of_few_parameters(getattr(modeling, name)))
    step = processing.TokenizerProcessorStep
    processing.TokenizerProcessorStep = lambda **fields: step(**{**fields, "tokenizer_name": str(tokenizer_folder)})


def _of_few_parameters(build: Callable) -> Callable:
    def build_small(config: Any) -> torch.nn.Module:
        for part in (config, getattr(config, "text_config", config)):
            part.vocab_size = NUM_TOKENS
        if vision := getattr(config, "vision_config", None):
            config.image_token_index = config.image_token_id = NUM_TOKENS - 1
            config.projection_dim = vision.projection_dim = WIDTH
            vision.hidden_size, vision.intermediate_size = WIDTH, 2 * WIDTH
            vision.num_hidden_layers, vision.num_attention_heads = 1, 2
        return build(config=config)

    return build_small
