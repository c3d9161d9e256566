"""A recorded checkpoint of a tiny Octo, as a folder and as a repository's files."""

from pathlib import Path

TINY = Path(__file__).parent / "goldens" / "octo" / "tiny_ckpt"


def tiny_files() -> dict[str, bytes]:
    paths = [path for path in TINY.rglob("*") if path.is_file() and path.name != "_METADATA"]
    return {path.relative_to(TINY).as_posix(): path.read_bytes() for path in paths} | {"README.md": b"Octo"}
