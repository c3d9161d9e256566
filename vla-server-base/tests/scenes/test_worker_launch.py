"""The settings that a worker starts with come from the server's."""

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.scenes import worker_launch
from vla_server_base.scenes.worker_launch import worker_settings


def test_quality_limits_and_time_are_the_servers():
    config = ServerConfig(scene_shadows=True, scene_multisampling=4, scene_timeout_s=3.0, scene_worker_max_jobs=7)
    settings = worker_settings(config, "osmesa")
    assert settings.renderer == "osmesa"
    assert (settings.quality.shadows, settings.quality.reflections, settings.quality.multisampling) == (True, False, 4)
    assert (settings.timeout_s, settings.max_jobs) == (3.0, 7)


@pytest.mark.parametrize(("setting", "groups"), [("", None), ("1 2", (1, 2)), ("0", (0,))])
def test_geom_groups_are_read_from_a_list_and_by_default_left_to_the_scene(setting, groups):
    assert worker_settings(ServerConfig(scene_geom_groups=setting), "raycast").geom_groups == groups


@pytest.mark.parametrize(("setting", "required"), [("required", True), ("best_effort", False)])
def test_confinement_is_required_where_the_server_says_so(setting, required):
    assert worker_settings(ServerConfig(scene_confinement=setting), "raycast").confinement_required == required


@pytest.mark.parametrize(("machine_mb", "memory_mb"), [(100_000, 1000), (3000, 1000), (1500, 500)])
def test_workers_that_may_be_busy_at_once_share_the_machines_memory(monkeypatch, machine_mb, memory_mb):
    monkeypatch.setattr(worker_launch, "machine_memory_mb", lambda: machine_mb)
    config = ServerConfig(scene_workers=2, scene_memory_mb=1000)
    assert worker_settings(config, "raycast").memory_mb == memory_mb
