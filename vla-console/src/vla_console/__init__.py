"""The page of a policy server, as static files, and a program that shows it for servers elsewhere."""

from pathlib import Path

__version__ = "0.1.0"
__all__ = ["static_dir"]


def static_dir() -> Path:
    """Return the folder with the page: index.html, console.js, console.css and the licences of its libraries."""
    return Path(__file__).parent / "static"
