"""The tests of shared sessions ask servers as those in tests/server do."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "server"))
