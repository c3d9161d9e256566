"""The packages hold what they need and little else, and the extras that messages and documents name are there."""

import email
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGES = [
    ROOT / folder
    for folder in ("vla-client", "vla-console", "vla-server-base", "vla-servers/octo-small", "vla-servers/lerobot")
]
DISTRIBUTIONS = ["vla-client", "vla-server-base", "octo-service"]
PYTHONS = {"vla-client": "<3.15,>=3.9", "lerobot": "<3.14,>=3.12"}
PAGE = {"index.html", "console.js", "console.js.gz", "console.css", "licences.txt"}
# uv says to what it runs where it is itself; make puts it into .uv/.
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
MAX_BYTES = 5_000_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels and source distributions of all packages; each wheel is built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


def build(folder: Path) -> None:
    command = [ROOT / ".ci" / "build-dist", folder]
    subprocess.run(command, env={**os.environ, "UV": UV, "PYTHON": sys.executable}, check=True, stdout=subprocess.PIPE)


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_wheel_has_every_file_of_the_source_its_readme_and_its_licence(built: Path, package: Path):
    listed = subprocess.run(["git", "ls-files", "src"], cwd=package, capture_output=True, text=True, check=True)
    sources = {line.removeprefix("src/") for line in listed.stdout.splitlines()}
    (file,) = built.glob(f"{min(sources).partition('/')[0]}-*.whl")
    with zipfile.ZipFile(file) as wheel:
        content = {name: wheel.read(name) for name in wheel.namelist()}
    assert sources <= content.keys()
    if package.name == "vla-console":
        assert {f"vla_console/static/{name}" for name in PAGE} <= content.keys(), "the page is built"
    (metadata,) = (content[name].decode() for name in content if name.endswith(".dist-info/METADATA"))
    assert metadata.endswith((package / "README.md").read_text())
    assert f"\nRequires-Python: {PYTHONS.get(package.name, '<3.15,>=3.10')}\n" in metadata
    (licence,) = (content[name] for name in content if name.endswith(".dist-info/licenses/LICENSE"))
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_our_packages_go_together_in_one_version_only(built: Path):
    wheels = [metadata_of(file) for file in built.glob("*.whl")]
    ours = {metadata["Name"]: metadata["Version"] for metadata in wheels}
    assert len(ours) == len(PACKAGES)
    for metadata in wheels:
        needed = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
        between_ours = {each.name for each in needed if each.name in ours} - {metadata["Name"]}
        pinned = {each.name for each in needed if str(each.specifier) == f"=={ours.get(each.name)}"}
        assert between_ours == pinned, metadata["Name"]


def test_what_is_built_twice_is_the_same_to_the_byte(built: Path, tmp_path: Path):
    build(tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == (built / "SHA256SUMS").read_text()


def test_the_versions_that_were_tested_are_beside_the_wheels(built: Path):
    lines = (built / "constraints.txt").read_text().splitlines()
    pinned = {Requirement(line).name for line in lines}
    assert {"jax", "mujoco", "fastapi", "grpcio", "pyzmq"} <= pinned
    assert pinned.isdisjoint({"pytest", "octo-service", "vla-client", "vla-console", "vla-server-base"})
    assert [line for line in lines if "==" not in line or "://" in line] == []


def test_what_is_published_is_small_and_has_no_tests(built: Path):
    sizes = {file.name: file.stat().st_size for file in [*built.glob("*.whl"), *built.glob("*.tar.gz")]}
    assert len(sizes) == 2 * len(PACKAGES)
    assert max(sizes.values()) < MAX_BYTES, sizes
    for file in built.glob("*.tar.gz"):
        with tarfile.open(file) as archive:
            names = {name.split("/")[1] for name in archive.getnames()}
        more = {"hatch_build.py"} if file.name.startswith("vla_console") else set()
        assert names == {"src", "README.md", "LICENSE", "PKG-INFO", "pyproject.toml", ".gitignore"} | more


def test_extras_that_messages_and_documents_name_are_there():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("vla-*/**/src/**/*.py")]
    name = re.compile(r"(?:--extra |EXTRAS=|how_to_install\([\"'])([a-z]\w+)")
    named = {extra for page in pages for extra in name.findall(page.read_text())}
    client, base, octo = (
        set(importlib.metadata.metadata(name).get_all("Provides-Extra") or []) for name in DISTRIBUTIONS
    )
    assert {"zmq", "train"} < named <= octo
    # Octo's package always has the page.
    assert client <= base <= octo | {"console"}
