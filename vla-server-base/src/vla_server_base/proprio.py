"""The robot's own state in a request: as many numbers as the policy takes, none too large."""

from collections.abc import Sequence

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import RequestError

MAX_PROPRIO = 1e9
"""More than any encoder counts, and small enough that float32 holds what a policy computes from it."""


def check_proprio(numbers: Sequence[float], spec: PolicySpec, name: str = "proprio") -> None:
    """Refuse proprio of the wrong length, or with numbers that no robot has; `name` is the field's.

    Raises:
        RequestError: naming the field and what it takes.
    """
    if len(numbers) != spec.proprio_dim:
        takes = f"takes {spec.proprio_dim}" if spec.proprio_dim else "takes none"
        hint = f"send {spec.proprio_dim} numbers" if spec.proprio_dim else f"leave {name} out"
        raise RequestError(f"{name}: {len(numbers)} numbers are given, this policy {takes}", hint=hint)
    for index, number in enumerate(numbers):
        if not abs(number) <= MAX_PROPRIO:
            raise RequestError(
                f"{name}.{index}: expected a number of at most {MAX_PROPRIO:g}, got {number:g}",
                hint="send the state in the units of the policy's training data",
            )
