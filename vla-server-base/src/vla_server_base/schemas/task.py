"""A task in a request: its instruction, or the server's default, and the dataset whose units the answer is in."""

from collections.abc import Sequence

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import InstructionError, UnknownName

SYNONYMS: Sequence[Sequence[str]] = (
    # Octo's name, OpenVLA's, and that of the copy in Open X-Embodiment.
    ("bridge_dataset", "bridge_orig", "bridge_oxe", "bridge"),
    # OpenVLA drops the steps without motion, and says so in the name.
    *((f"libero_{suite}", f"libero_{suite}_no_noops") for suite in ("spatial", "object", "goal", "10", "90")),
)
"""Names of the same recordings of the same robot; other names of OpenVLA and Octo agree."""


def known_dataset(asked: str, spec: PolicySpec) -> tuple[str | None, str | None]:
    """Return the dataset whose statistics a client gets that names one, and a note for the client.

    Raises:
        UnknownName: the policy has several datasets, and none by that name.
    """
    if asked in spec.datasets:
        return asked, None
    same = {name for names in SYNONYMS if asked in names for name in names}
    if synonyms := [name for name in spec.datasets if name in same]:
        return synonyms[0], f"dataset '{asked}' is '{synonyms[0]}' here"
    if len(spec.datasets) > 1:
        raise UnknownName("dataset", asked, spec.datasets)
    if spec.datasets:
        (only,) = spec.datasets
        return only, f"dataset '{asked[:80]}' is not known; actions are in the units of the only one, '{only}'"
    return None, f"dataset '{asked[:80]}' is not known here; this policy's actions are in its own units"


def instruction_or_default(instruction: str, default: str, spec: PolicySpec) -> tuple[str | None, str | None]:
    """Return the instruction, None if it is empty, and a note for the client if it is the server's default.

    Raises:
        InstructionError: it is longer than the policy takes.
    """
    followed = instruction if instruction.strip() else default
    if not followed.strip():
        return None, None
    if len(followed) > spec.max_instruction_chars:
        given, limit = len(followed), spec.max_instruction_chars
        raise InstructionError(f"the instruction has {given} characters; the limit is {limit}", hint="shorten it")
    is_default = followed is not instruction
    return (
        followed,
        None if not is_default else f"the request has no instruction; the server's default is used: '{default}'",
    )
