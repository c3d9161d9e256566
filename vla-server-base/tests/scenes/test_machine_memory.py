"""How much memory a server may have: the least of the machine's and its control groups'."""

import os

import pytest

from vla_server_base.scenes import machine_memory


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_memory, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def limits(tmp_path, membership: str) -> list[int]:
    file = tmp_path / "membership"
    file.write_text(membership)
    return list(machine_memory._limits(file))


def test_it_is_at_most_the_machines():
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    assert 0 < machine_memory.machine_memory_mb() <= machine


def test_every_parent_of_a_group_counts_and_max_is_no_limit(cgroups, tmp_path):
    group = cgroups / "slice" / "service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text("1048576\n")
    assert limits(tmp_path, "0::/slice/service\n") == [1048576]


def test_the_first_version_of_control_groups_has_a_folder_for_memory(cgroups, tmp_path):
    group = cgroups / "memory" / "job"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("2097152\n")
    assert limits(tmp_path, "5:cpu,cpuacct:/job\n4:memory:/job\n") == [2097152]


def test_a_path_of_the_host_that_a_container_has_not_leaves_its_root(cgroups, tmp_path):
    (cgroups / "memory.max").write_text("4096\n")
    assert limits(tmp_path, "0::/host/docker/abc\n") == [4096]


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert list(machine_memory._limits(tmp_path / "missing")) == []
