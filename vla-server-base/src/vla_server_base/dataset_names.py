"""Datasets by the names that clients have for them: a policy's own, others' for the same, or the only one there is."""

from collections.abc import Sequence

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import UnknownName

SAME: Sequence[Sequence[str]] = (
    # Octo's name, OpenVLA's, and that of the copy in Open X-Embodiment.
    ("bridge_dataset", "bridge_orig", "bridge_oxe", "bridge"),
    # OpenVLA leaves out what does not move, and says so in the name.
    *((f"libero_{suite}", f"libero_{suite}_no_noops") for suite in ("spatial", "object", "goal", "10", "90")),
)
"""Names of the same robot's same recordings; other names of OpenVLA's and Octo's agree."""


def known_dataset(asked: str, spec: PolicySpec) -> tuple[str | None, str | None]:
    """Return whose statistics a client that names a dataset gets, and what it is to be told of that.

    Raises:
        UnknownName: the policy has several, none of them by that name.
    """
    if asked in spec.datasets:
        return asked, None
    same = {name for names in SAME if asked in names for name in names}
    if found := [name for name in spec.datasets if name in same]:
        return found[0], f"dataset '{asked}' is '{found[0]}' here"
    if len(spec.datasets) > 1:
        raise UnknownName("dataset", asked, spec.datasets)
    if spec.datasets:
        (only,) = spec.datasets
        return only, f"dataset '{asked[:80]}' is not known here; actions are in the units of the only one, '{only}'"
    return None, f"dataset '{asked[:80]}' is not known here; this policy's actions are in its own units"
