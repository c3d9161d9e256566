"""Flags: the fields of a config as options, `true` and `false` as in the environment, and values that are in range."""

import ast
import dataclasses
import inspect
import os
from itertools import pairwise
from typing import Annotated, Any, TypeVar, get_type_hints

import pydantic
import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from vla_server_base.config import ConfigError, config_from_environment
from vla_server_base.errors import UsageError

REGISTRY = ConstructorRegistry()

SCENE_SETTINGS = (
    "renderer",
    "scene_workers",
    "scene_timeout_s",
    "scene_memory_mb",
    "scene_worker_max_scenes",
    "scene_worker_max_jobs",
    "scene_shadows",
    "scene_reflections",
    "scene_multisampling",
    "scene_cameras",
)
"""The server's settings that also apply to a command that renders scenes itself."""

SEE_HELP = "the same command with --help lists what each flag takes"

Options = TypeVar("Options")
Config = TypeVar("Config")
"""The settings of the policy that a command serves; `shared_commands` says which."""


def flags_of(kind: type, prefix: str, *names: str, **defaults: str) -> Any:
    """Make flags of a config's fields: of those in `names`, or of all. The environment says what the others are.

    A field without a repr is a secret, which is never a flag: all users of a machine see each other's command lines.

    `defaults` are variables that count where the environment has none, such as `VLA_PORT="0"`.
    """
    documents = _documents(kind)
    secrets = {field.name for field in dataclasses.fields(kind) if not field.repr}  # pyright: ignore[reportArgumentType]
    chosen = names or tuple(name for name in documents if name not in secrets)

    def construct() -> Any:
        config = config_from_environment(kind, prefix, {**defaults, **os.environ})
        hints = get_type_hints(kind, include_extras=True)
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=getattr(config, name),
                annotation=Annotated[hints[name], tyro.conf.arg(help=documents[name])],
            )
            for name in chosen
        ]

        def config_from_flags(**given: Any) -> Any:
            try:
                return dataclasses.replace(config, **given)
            except ConfigError as error:
                name, _, rest = str(error).partition("=")
                raise UsageError(f"{_flag(name)}={rest}", hint=SEE_HELP) from error

        config_from_flags.__signature__ = inspect.Signature(parameters)
        config_from_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return config_from_flags

    return tyro.conf.arg(constructor_factory=construct)


def _documents(kind: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: str(document.value.value)
        for field, document in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(document, ast.Expr)
        and isinstance(document.value, ast.Constant)
    }


@REGISTRY.primitive_rule
def switch(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[bool] | None:
    """Read a bool: `--flag`, or `--flag true` and `--flag false` as the environment spells them."""
    if info.type is not bool:
        return None
    return PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[{true,false}]",
        instance_from_str=_bool_from_text,
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value).lower()],
    )


def _bool_from_text(given: list[str]) -> bool:
    try:
        return not given or pydantic.TypeAdapter(bool).validate_python(given[0])
    except pydantic.ValidationError as error:
        raise ValueError(f"expected true or false, got '{given[0]}'") from error


def validated(options: Options) -> Options:
    """Return options, and the dataclasses in them, whose values are all in range.

    Raises:
        UsageError: naming the first flag whose value is not, and what it takes.
    """
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}  # pyright: ignore[reportArgumentType]
    for value in values.values():
        if dataclasses.is_dataclass(value):
            validated(value)
    try:
        pydantic.TypeAdapter(type(options)).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{_flag(first['loc'][0])}={first['input']} cannot be used: {first['msg']}", hint=SEE_HELP
        ) from error
    return options


def _flag(name: str | int) -> str:
    return f"--{str(name).replace('_', '-')}"
