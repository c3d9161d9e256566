"""The cache folder is the configured one if it can be written, else a temporary one."""

from pathlib import Path

from vla_server_base.cache_folder import writable_cache


def test_a_folder_is_made_with_its_parents_and_kept(tmp_path: Path):
    folder = tmp_path / "new" / "cache"
    with writable_cache(folder) as cache:
        assert cache == folder
        (cache / "weights").write_bytes(b"1")
    assert [path.name for path in folder.iterdir()] == ["weights"]


def test_a_folder_that_cannot_be_written_is_replaced_by_a_temporary_one(tmp_path: Path, caplog):
    (tmp_path / "file").touch()
    with writable_cache(tmp_path / "file" / "cache") as cache:
        (cache / "weights").write_bytes(b"1")
    assert not cache.exists()
    assert f"VLA_CACHE_DIR={tmp_path / 'file' / 'cache'}" in caplog.text
