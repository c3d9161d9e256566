"""A server that speaks all protocols, and has answered some of each."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "server"))
sys.path.append(str(Path(__file__).parents[1] / "protocols"))
