"""Requests that the API's description allows, and such as it forbids: each is answered in form, and none with a 500."""

import os
import subprocess
import sys

from echo_server import wait_until_healthy
from test_uvicorn import SERVE, running

NUM_EXAMPLES = os.environ.get("FUZZ_HTTP_EXAMPLES", "5")
"""For each operation and phase; `make fuzz-http` sends more."""
CHECKS = """
# 503 and 504 are answers of a server that is busy, with the reason.
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
# A description cannot say which text is a scene, or which bytes have a hash.
positive_data_acceptance.enabled = false

# An event stream goes on for as long as there is what it follows: ask for one of nothing.
[[operations]]
include-path = "/episodes/{episode_id}/events"
parameters = { "path.episode_id" = "none" }

# Besides, a session's id may have slashes: DELETE takes this address for a session's that ends in /events.
[[operations]]
include-path = "/sessions/{session_id}/events"
parameters = { "path.session_id" = "none" }
checks.allow_header_conformance.enabled = false
checks.unsupported_method.enabled = false

# So may a model's id: GET and DELETE take this address for that of a model.
[[operations]]
include-path = "/models/{model_id}/serve"
checks.allow_header_conformance.enabled = false
checks.unsupported_method.enabled = false
"""


def test_no_request_is_answered_with_500_or_otherwise_than_described(folder):
    (folder / "checks.toml").write_text(CHECKS)
    with running(folder, *SERVE, VLA_SCENE_TIMEOUT_S="2") as (url, _, _):
        wait_until_healthy(url)
        options = ("--seed", "1", "--max-examples", NUM_EXAMPLES, "--request-timeout", "30", "--no-shrink")
        options += ("--phases", "examples,coverage,fuzzing")
        command = ("-m", "schemathesis.cli", "--config-file", "checks.toml", "run", f"{url}/openapi.json", *options)
        found = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
