# MuJoCo's names are in compiled modules, which pyright cannot read.
from typing import Any

def __getattr__(name: str) -> Any: ...
