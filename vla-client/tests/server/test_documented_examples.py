"""The examples of the documents run as they are printed, against a live server."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
ADDRESS = "ws://127.0.0.1:8002"


def names_after(example: str, url: str, **names) -> dict:
    assert ADDRESS in example
    exec(example.replace(ADDRESS, url), names)
    return names


def test_the_readmes_line_runs(url):
    page = (ROOT / "README.md").read_text()
    (import_line,) = re.findall(r"`(from vla_client import Policy)`", page)
    (call,) = re.findall(r"`(Policy\(\"ws://127.0.0.1:8002\"\).*?)`", page)
    image = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    assert names_after(f"{import_line}\naction = {call}", url, image=image)["action"].shape == (7,)


def test_the_example_of_the_clients_page_runs(url):
    page = (ROOT / "docs" / "clients.md").read_text()
    (example,) = re.findall(r"```python\n(import numpy as np\n.*?)```", page, re.DOTALL)
    assert names_after(example, url)["action"].shape == (7,)


def test_the_quick_start_runs(url):
    page = (ROOT / "vla-client" / "README.md").read_text()
    (example,) = re.findall(r"```python\n(import numpy as np\n.*?)```", page, re.DOTALL)
    assert names_after(example, url)["action"].shape == (7,)


def test_the_example_of_the_real_time_page_runs(url):
    page = (ROOT / "docs" / "real_time.md").read_text()
    (example,) = re.findall(r"```python\n(import numpy as np\n.*?)```", page, re.DOTALL)
    assert names_after(example, url)["loop"].statistics.num_ticks == 50
