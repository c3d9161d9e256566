"""The real huggingface_hub client against a small hub on localhost, with and without faults."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from tiny_checkpoint import TINY, tiny_files

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.checkpoints.hub import fetch_tokenizer, resolve
from octo_service.errors import HubError, HubUnreachable
from vla_server_base.testing.small_hub import SmallHub

MODEL = "hf://lab/octo"
WHOLE = {"config.json", "dataset_statistics.json", "example_batch.msgpack", "300000/default/checkpoint"}


@pytest.fixture(autouse=True)
def client_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tester's own settings of the client out of these tests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def hub():
    with SmallHub() as hub:
        yield hub


def small_files(**others: bytes) -> dict[str, bytes]:
    """Give a repository that has everything but sense: the files' content does not matter here."""
    return {name: name.encode() * 1000 for name in sorted(WHOLE)} | others


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def no_hub() -> str:
    """Return the address of a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def complaint(*args, **kwargs) -> str:
    """Return what resolving complains about, which is always one line that says what to do."""
    with pytest.raises(HubError) as caught:
        resolve(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_a_model_is_downloaded_and_loads(hub: SmallHub, tmp_path: Path):
    commit = hub.add("lab/octo", tiny_files())
    resolved = resolve(MODEL, tmp_path, endpoint=hub.url)
    assert resolved.revision == commit
    assert files_in(resolved.folder) == WHOLE  # and no README.md
    assert load_checkpoint(resolved.folder).params_hash == load_checkpoint(TINY).params_hash


def test_what_is_cached_is_not_downloaded_again(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    first = resolve(MODEL, tmp_path, endpoint=hub.url)
    hub.requests.clear()
    assert resolve(MODEL, tmp_path, endpoint=hub.url) == first
    assert hub.files_sent() == []


def test_only_the_latest_step_is_downloaded(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files(**{"20000/default/checkpoint": b"old", "9/default/checkpoint": b"older"}))
    assert files_in(resolve(MODEL, tmp_path, endpoint=hub.url).folder) == WHOLE


def test_a_step_that_is_asked_for_is_downloaded_instead(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files(**{"20000/default/checkpoint": b"old"}))
    folder = resolve(MODEL, tmp_path, step=20000, endpoint=hub.url).folder
    assert (folder / "20000/default/checkpoint").read_bytes() == b"old"
    assert not (folder / "300000").exists()


def test_a_step_that_is_not_there_is_refused_with_those_that_are(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files(**{"20000/default/checkpoint": b"old"}))
    assert "has no step 7, only 20000, 300000" in complaint(MODEL, tmp_path, step=7, endpoint=hub.url)


def test_a_branch_and_a_commit_can_be_named(hub: SmallHub, tmp_path: Path):
    old = hub.add("lab/octo", small_files(**{"config.json": b"old"}))
    new = hub.add("lab/octo", small_files(**{"config.json": b"new"}), branch="v2")
    assert resolve(f"{MODEL}@{old}", tmp_path, endpoint=hub.url).revision == old
    by_branch = resolve(f"{MODEL}@v2", tmp_path, endpoint=hub.url)
    assert (by_branch.revision, (by_branch.folder / "config.json").read_bytes()) == (new, b"new")


def test_a_cached_model_needs_no_hub(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    online = resolve(MODEL, tmp_path, endpoint=hub.url)
    assert resolve(MODEL, tmp_path, endpoint=no_hub()) == online
    hub.faults.status = 503
    assert resolve(MODEL, tmp_path, endpoint=hub.url) == online


def test_a_model_that_was_not_wholly_downloaded_is_not_taken_from_the_cache(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    (resolve(MODEL, tmp_path, endpoint=hub.url).folder / "300000/default/checkpoint").unlink()
    assert "not completely cached" in complaint(MODEL, tmp_path, endpoint=no_hub())


def in_a_process_of_its_own(cache: Path, **environment: str) -> str:
    """Resolve as a server does: the client reads its settings when it is imported."""
    script = (
        "import sys; from pathlib import Path; from octo_service.errors import HubError\n"
        "from octo_service.checkpoints.hub import resolve\n"
        f"try: print(resolve('{MODEL}', Path(sys.argv[1])).revision)\n"
        "except HubError as error: print(error)"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(cache)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_the_client_s_environment_variables_count(hub: SmallHub, tmp_path: Path):
    commit = hub.add("lab/octo", small_files())
    assert "HF_HUB_OFFLINE is set" in in_a_process_of_its_own(tmp_path, HF_HUB_OFFLINE="1")
    assert in_a_process_of_its_own(tmp_path, HF_ENDPOINT=hub.url) == commit
    assert in_a_process_of_its_own(tmp_path, HF_HUB_OFFLINE="1") == commit


def test_a_hub_that_cannot_be_reached_is_said_so_with_a_way_out(tmp_path: Path):
    message = complaint(MODEL, tmp_path, endpoint=no_hub())
    assert "gave no valid answer" in message
    for way_out in ("HF_ENDPOINT", "OCTO_MODEL", "bundled://tabletop"):
        assert way_out in message


def test_a_hub_that_fails_is_said_so(hub: SmallHub, tmp_path: Path):
    hub.faults.status = 503
    assert "503" in complaint(MODEL, tmp_path, endpoint=hub.url)


def test_only_what_may_pass_is_worth_another_try(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    for status in (500, 503, 429):
        hub.faults.status = status
        with pytest.raises(HubUnreachable):
            resolve(MODEL, tmp_path, endpoint=hub.url)
    with pytest.raises(HubUnreachable):
        resolve(MODEL, tmp_path, endpoint=no_hub())
    hub.faults.status = None
    for model in ("hf://lab/other", f"{MODEL}@v9", "no/such/folder"):
        with pytest.raises(HubError) as caught:
            resolve(model, tmp_path, endpoint=hub.url)
        assert not isinstance(caught.value, HubUnreachable)


def test_a_page_that_is_no_hub_s_is_said_so(hub: SmallHub, tmp_path: Path):
    hub.faults.page = b"<html>please log in to the guest network</html>"
    assert "HF_ENDPOINT" in complaint(MODEL, tmp_path, endpoint=hub.url)


def test_an_unknown_repository_is_said_so(hub: SmallHub, tmp_path: Path):
    message = complaint(MODEL, tmp_path, endpoint=hub.url)
    assert "has no model lab/octo that you can read" in message
    assert "HF_TOKEN" in message


def test_an_unknown_revision_is_said_so_even_where_another_is_cached(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    resolve(MODEL, tmp_path, endpoint=hub.url)
    assert "has no revision 'v3' of lab/octo" in complaint(f"{MODEL}@v3", tmp_path, endpoint=hub.url)


def test_a_gated_repository_opens_with_a_token(hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commit = hub.add("lab/octo", small_files())
    hub.gated["lab/octo"] = "hf_secret"
    assert f"accept its terms at {hub.url}/lab/octo" in complaint(MODEL, tmp_path, endpoint=hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert resolve(MODEL, tmp_path, endpoint=hub.url).revision == commit


@pytest.mark.parametrize("name", ["config.json", "dataset_statistics.json", "example_batch.msgpack"])
def test_a_repository_without_one_of_the_files_is_said_so(hub: SmallHub, tmp_path: Path, name: str):
    files = small_files()
    del files[name]
    hub.add("lab/octo", files)
    assert f"{MODEL} is not a checkpoint of Octo: it has no {name}" in complaint(MODEL, tmp_path, endpoint=hub.url)


def test_a_repository_without_a_step_is_said_so(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", {name: b"x" for name in WHOLE if "/" not in name})
    assert "it has no step's folder" in complaint(MODEL, tmp_path, endpoint=hub.url)


def test_a_file_that_is_listed_but_not_there_is_said_so(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    hub.faults.absent.add("dataset_statistics.json")
    message = complaint(MODEL, tmp_path, endpoint=hub.url)
    assert "lists a file" in message
    assert "OCTO_MODEL" in message


def test_a_download_that_drops_in_the_middle_goes_on_where_it_stopped(hub: SmallHub, tmp_path: Path):
    chunk = huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE  # what the client keeps of a download, at least
    checkpoint = "300000/default/checkpoint"
    files = small_files(**{checkpoint: bytes(chunk) + b"the rest"})
    hub.add("lab/octo", files)
    hub.faults.cut_after[checkpoint], hub.faults.cuts[checkpoint] = chunk + 4, 1
    folder = resolve(MODEL, tmp_path, endpoint=hub.url).folder
    assert (folder / checkpoint).read_bytes() == files[checkpoint]
    ranges = [asked for method, path, asked in hub.requests if method == "GET" and path.endswith(checkpoint)]
    assert ranges == [None, f"bytes={chunk}-"]


def test_a_download_that_never_ends_whole_is_said_so_and_can_be_repeated(hub: SmallHub, tmp_path: Path):
    commit = hub.add("lab/octo", small_files())
    checkpoint = "300000/default/checkpoint"
    hub.faults.cut_after[checkpoint], hub.faults.cuts[checkpoint] = 0, 99
    message = complaint(MODEL, tmp_path, endpoint=hub.url)
    assert "was cut short" in message
    assert "start again" in message
    hub.faults.cuts.clear()
    hub.requests.clear()
    assert resolve(MODEL, tmp_path, endpoint=hub.url).revision == commit
    assert hub.files_sent() == [checkpoint]


def test_a_file_of_another_size_than_announced_is_said_so(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    hub.faults.promised["300000/default/checkpoint"] = 99
    assert "was cut short" in complaint(MODEL, tmp_path, endpoint=hub.url)


@pytest.mark.parametrize("name", ["300000/default/checkpoint", "config.json"])
def test_a_file_that_arrives_damaged_is_said_so_and_downloaded_anew(hub: SmallHub, tmp_path: Path, name: str):
    files = small_files()
    hub.add("lab/octo", files)
    hub.faults.flipped.add(name)
    assert f"{name} of {MODEL} arrived damaged" in complaint(MODEL, tmp_path, endpoint=hub.url)
    hub.faults.flipped.clear()
    folder = resolve(MODEL, tmp_path, endpoint=hub.url).folder
    assert (folder / name).read_bytes() == files[name]


def test_a_cache_that_cannot_be_written_is_said_so(hub: SmallHub, tmp_path: Path):
    hub.add("lab/octo", small_files())
    (tmp_path / "file").write_text("in the way")
    assert "cannot be stored" in complaint(MODEL, tmp_path / "file", endpoint=hub.url)


def test_a_tokenizer_comes_from_the_hub_in_the_same_way(hub: SmallHub, tmp_path: Path):
    hub.add("google-t5/t5-base", {"tokenizer.json": b"{}", "model.safetensors": b"large"})
    path = fetch_tokenizer("t5-base", tmp_path, endpoint=hub.url)
    assert path.read_bytes() == b"{}"
    assert hub.files_sent() == ["tokenizer.json"]
    assert fetch_tokenizer("t5-base", tmp_path, endpoint=no_hub()) == path


def test_a_tokenizer_that_cannot_be_had_names_the_setting_that_helps(tmp_path: Path):
    with pytest.raises(HubError, match="set OCTO_TOKENIZER"):
        fetch_tokenizer("t5-base", tmp_path, endpoint=no_hub())


def test_a_folder_is_taken_as_it_is(tmp_path: Path):
    resolved = resolve(str(tmp_path))
    assert (resolved.folder, resolved.revision) == (tmp_path, None)


@pytest.mark.parametrize("name", ["/no/such/folder", "rail-berkeley/octo-small-1.5", "hf://octo", "hf://a/b/c@x"])
def test_what_names_no_model_is_refused_with_the_form_to_write(name: str):
    assert "hf://org/name" in complaint(name)
