"""The workflows and the hooks run what `make` runs, on every Python that the packages support."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PROJECTS = [
    ROOT / folder / "pyproject.toml"
    for folder in ("vla-client", "vla-console", "vla-server-base", "vla-servers/octo-small", "vla-servers/lerobot")
]
WHOLE_SUITE = {"3.10", "3.11", "3.12", "3.13"}


def minor(version: str) -> int:
    return int(version.split(".")[1])


def jobs(workflow: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(workflow.read_text())["jobs"].values())


def matrix_of(job: dict[str, Any]) -> list[dict[str, str]]:
    """The job's combinations of values, those of `include` too."""
    matrix = dict(job["strategy"]["matrix"])
    include = matrix.pop("include", [])
    return [*(dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())), *include]


RUNS = [run for workflow in WORKFLOWS for job in jobs(workflow) for run in matrix_of(job)]


def test_each_run_is_a_make_target():
    assert {run["target"] for run in RUNS} <= TARGETS


def test_together_the_runs_are_make_test_and_make_test_lerobot():
    prerequisites = re.search(r"^test: ([a-z -]+)", MAKEFILE, re.MULTILINE)
    assert prerequisites is not None
    assert {*prerequisites[1].split(), "test-lerobot"} == {run["target"] for run in RUNS}


def pythons_of(target: str) -> set[str]:
    return {version for run in RUNS if run["target"] == target for version in run["python"].split()}


@pytest.mark.parametrize("target", ["test-base", "test-octo"])
def test_the_whole_suite_runs_on_each_python(target: str):
    assert pythons_of(target) == WHOLE_SUITE


def test_the_client_runs_on_a_python_that_is_too_old_for_the_server():
    assert min(pythons_of("test-vla-client"), key=minor) == "3.9"
    assert "3.9" not in pythons_of("test-base")


def targets_of(project: str) -> set[str]:
    """The targets that run a project on the Pythons that it supports."""
    if project == "lerobot":
        return {"test-lerobot"}
    return {run["target"] for run in RUNS} - ({"test-vla-client"} if project != "vla-client" else set())


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.parent.name)
def test_the_pythons_that_are_declared_are_those_that_are_tested(project: Path):
    text = project.read_text()
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    targets = targets_of(project.parent.name)
    tested = sorted(set().union(*map(pythons_of, targets)), key=minor)
    assert declared == tested
    assert f'requires-python = ">={tested[0]},<3.{minor(tested[-1]) + 1}"' in text


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_a_workflow_may_only_read_and_pins_its_actions(workflow: Path):
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    actions = [step["uses"] for job in jobs(workflow) for step in job["steps"] if "uses" in step]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)] == []


def test_the_hooks_are_valid_and_run_this_projects_own_tools():
    config = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", config], check=True)
    repositories = yaml.safe_load(config.read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    entries = [hook["entry"].split() for hook in repositories[0]["hooks"]]
    assert {entry[1] for entry in entries if entry[0] == "make"} <= TARGETS
    assert {entry[0] for entry in entries} <= {"make", "git"}
