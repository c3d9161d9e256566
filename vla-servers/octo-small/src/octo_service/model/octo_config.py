"""From a checkpoint's config.json to the architecture that it describes."""

from collections.abc import Callable, Mapping
from typing import Any

from octo_service.errors import ModelConfigError
from octo_service.model.heads import ACTION_HEADS
from octo_service.model.image_encoders import IMAGE_ENCODERS
from octo_service.model.octo import Octo, Tokenizer
from octo_service.model.tokens import ImageTokenizer, LanguageTokenizer, LowdimObsTokenizer
from octo_service.model.transformer import Transformer


def build_octo(model_config: Mapping[str, Any]) -> Octo:
    """Build the architecture that `config["model"]` of a checkpoint describes.

    Raises:
        ModelConfigError: naming an unknown module or option.
    """
    options = dict(model_config)
    try:
        return _make(
            Octo,
            "model",
            observation_tokenizers=_build_all(options.pop("observation_tokenizers"), _TOKENIZERS),
            task_tokenizers=_build_all(options.pop("task_tokenizers"), _TOKENIZERS),
            heads=_build_all(options.pop("heads"), ACTION_HEADS),
            transformer=_build_transformer(options.pop("transformer_kwargs")),
            **options,
        )
    except KeyError as error:
        raise ModelConfigError(f"config.json lacks {error}", hint="give a checkpoint of Octo") from error


def _build_transformer(options: Mapping[str, Any]) -> Transformer:
    transformer = _make(Transformer, "transformer_kwargs", **options)
    if transformer.add_position_embedding:
        raise ModelConfigError(
            "config.json asks for add_position_embedding",
            hint="leave it out: Octo's tokens have positions already",
        )
    return transformer


def _build_image_tokenizer(encoder: Mapping[str, Any], **options: Any) -> ImageTokenizer:
    built = _build(encoder, IMAGE_ENCODERS)
    return _make(ImageTokenizer, "ImageTokenizer", encoder=built, encoder_name=encoder["name"], **options)


_TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "ImageTokenizer": _build_image_tokenizer,
    "LanguageTokenizer": LanguageTokenizer,
    "LowdimObsTokenizer": LowdimObsTokenizer,
}


def _build_all(specs: Mapping[str, Any], kinds: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    return {name: _build(spec, kinds) for name, spec in specs.items()}


def _build(spec: Mapping[str, Any], kinds: Mapping[str, Callable[..., Any]]) -> Any:
    if spec["name"] not in kinds:
        raise ModelConfigError(f"config.json asks for '{spec['name']}'", hint=f"available: {', '.join(kinds)}")
    return _make(kinds[spec["name"]], spec["name"], **spec["kwargs"])


def _make(kind: Callable[..., Any], name: str, **options: Any) -> Any:
    # Sequences become tuples, so that an architecture is hashable and can be a static argument.
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        return kind(**frozen)
    except TypeError as error:
        raise ModelConfigError(
            f"config.json has options that '{name}' does not take: {error}",
            hint="remove them from config.json",
        ) from error
