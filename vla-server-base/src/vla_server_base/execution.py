"""How a robot's session or an episode executes a policy's chunks, by name."""

from typing import Literal

Execution = Literal["receding", "chunk", "ensemble", "rtc", "aligned", "blended"]
"""`sessions/settings.py` says what each does."""
