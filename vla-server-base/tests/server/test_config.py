"""Settings: from the environment, in Python, and what is said of those that cannot be."""

import dataclasses
import logging
from typing import Any

import pytest

from vla_server_base import config
from vla_server_base.config import ConfigError, ServerConfig, config_from_environment

NUMBERS = [field.name for field in dataclasses.fields(ServerConfig) if type(field.default) in (int, float)]
OF_A_SERVICE = {
    "VLA_PORT": "tcp://10.0.0.1:8002",
    "VLA_PORT_8002_TCP": "tcp://10.0.0.1:8002",
    "VLA_PORT_8002_TCP_ADDR": "10.0.0.1",
    "VLA_SERVICE_HOST": "10.0.0.1",
    "VLA_SERVICE_PORT": "8002",
    "VLA_SERVICE_PORT_HTTP": "8002",
    "VLA_ZMQ_SERVICE_HOST": "10.0.0.2",
    "VLA_ZMQ_PORT": "tcp://10.0.0.2:5555",
}


@pytest.fixture(autouse=True)
def nothing_said_yet():
    config._warn.cache_clear()


def read(**environment: str) -> ServerConfig:
    return config_from_environment(ServerConfig, "VLA", environment)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e300", str(2**64), "many"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_refused_by_its_variable(name: str, value: str):
    with pytest.raises(ConfigError, match=f"^VLA_{name.upper()}='.*' cannot be used: Input should be "):
        read(**{f"VLA_{name.upper()}": value})


@pytest.mark.parametrize("name", ["max_body_mb", "max_queue", "scene_timeout_s", "scene_workers", "session_idle_s"])
def test_what_would_let_nothing_through_is_refused(name: str):
    with pytest.raises(ConfigError, match="greater than"):
        read(**{f"VLA_{name.upper()}": "0"})


@pytest.mark.parametrize(("name", "value"), [("port", 99999), ("scene_timeout_s", float("nan"))])
def test_the_same_holds_for_settings_made_in_python(name: str, value: Any):
    with pytest.raises(ConfigError, match=f"^{name}="):
        ServerConfig(**{name: value})
    with pytest.raises(ConfigError, match=f"^{name}="):
        dataclasses.replace(ServerConfig(), **{name: value})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("yes", True), ("1", True), ("no", False), ("0", False)])
def test_yes_and_no_may_be_written_in_many_ways(text: str, value: bool):
    assert read(VLA_SCENE_SHADOWS=text).scene_shadows is value


def test_an_empty_variable_counts_as_not_set():
    assert read(VLA_PORT="", VLA_CACHE_DIR="") == ServerConfig()


def test_a_folder_may_begin_with_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(VLA_CACHE_DIR="~/vla").cache_dir == tmp_path / "vla"


def test_an_unknown_variable_is_warned_of_once_with_the_nearest_setting(caplog):
    for _ in range(2):
        read(VLA_MAX_QEUE="3", VLA_COFFEE="black")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "VLA_MAX_QEUE is not a setting: did you mean VLA_MAX_QUEUE?",
        "VLA_COFFEE is not a setting, and does nothing",
    ]


def test_what_kubernetes_sets_for_a_service_is_no_setting(caplog):
    assert read(**OF_A_SERVICE) == ServerConfig()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [sentence.partition(" ")[0] for sentence in said] == [
        "VLA_PORT=tcp://10.0.0.1:8002",
        "VLA_ZMQ_PORT=tcp://10.0.0.2:5555",
    ]


@pytest.mark.parametrize(
    "settings",
    [{"max_body_mb": 65, "max_bodies_mb": 64}, {"max_connections": 100, "max_sockets": 99}],
    ids=["bodies", "sockets"],
)
def test_settings_that_contradict_each_other_are_refused_in_one_sentence(settings: dict[str, int]):
    smaller, larger = (f"VLA_{name.upper()}={value}" for name, value in settings.items())
    with pytest.raises(ConfigError, match=f"^{smaller} is over {larger}: "):
        read(**{f"VLA_{name.upper()}": str(value) for name, value in settings.items()})
