"""Packages that only some need: the extras of a policy's package, which has those of this one, too."""


def how_to_install(extra: str) -> str:
    """Return a hint for a clone that lacks an extra; what was installed before stays."""
    return (
        f"run `make install EXTRAS={extra}` at the top of the repository, "
        f"or `uv sync --extra {extra} --no-dev --inexact` in the folder of the policy's package"
    )
