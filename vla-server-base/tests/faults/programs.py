"""The programs that these tests start, and how."""

from test_uvicorn import MODULE, OURS

__all__ = ["LIMITED", "MODULE", "OURS", "SLOW", "limited"]

# Limits that the kernel sets for the server alone, not for these tests.
LIMITED = """
import resource, runpy, sys
for limit in sys.argv[1:]:
    name, number = limit.split("=")
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(number), int(number)))
runpy.run_path("ours.py", run_name="__main__")
"""
SLOW = """
import time
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

class Slow(EchoAdapter):
    def predict(self, batch):
        time.sleep(max(each.seed for each in batch) / 1000)
        return super().predict(batch)

app = app_for_uvicorn(lambda config: create_vla_app(Slow(), config, model_id="slow"))
"""


def limited(**limits: int) -> tuple[str, ...]:
    """The command of the server under limits, such as `NOFILE=64`."""
    return ("limited.py", *(f"{name}={number}" for name, number in limits.items()))
