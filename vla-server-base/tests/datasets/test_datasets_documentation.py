"""docs/datasets.md is true."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()


def test_the_documents_script_prints_what_it_says(tmp_path):
    ((code, printed),) = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", PAGE, re.DOTALL)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.stdout == printed, run.stderr
