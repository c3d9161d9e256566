"""The instruction that a policy is to follow: what a request says, or the server's own where it says none."""

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import InstructionError


def instruction_or_default(said: str, default: str, spec: PolicySpec) -> tuple[str | None, str | None]:
    """Return the instruction, None where there is none, and what the client is to be told of it.

    Raises:
        InstructionError: it is longer than the policy takes.
    """
    followed = said if said.strip() else default
    if not followed.strip():
        return None, None
    if len(followed) > spec.max_instruction_chars:
        given, limit = len(followed), spec.max_instruction_chars
        raise InstructionError(f"the instruction has {given} characters, at most {limit} are taken")
    is_said = followed is said
    return followed, None if is_said else f"no instruction is given; the server's own is followed: '{default}'"
