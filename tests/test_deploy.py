"""What runs the server for an operator fits the server: an image, a systemd unit, Kubernetes' manifests."""

import dataclasses
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from uvicorn.config import STARTUP_FAILURE

from octo_service.config import OctoConfig
from octo_service.program import OCTO
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = runpy.run_path(str(DEPLOY / "proof" / "dockerfile.py"))
INSTRUCTIONS = DOCKERFILE["read"](DEPLOY / "docker" / "Dockerfile")
BUILD, FINAL = DOCKERFILE["stages"](INSTRUCTIONS)
UNIT = (DEPLOY / "systemd" / "vla-server.service").read_text()
SETTINGS = {f"VLA_{field.name.upper()}" for field in dataclasses.fields(ServerConfig)}
SETTINGS |= {f"OCTO_{field.name.upper()}" for field in dataclasses.fields(OctoConfig)}
LONGEST_STOP_S = ServerConfig().shutdown_grace_s + 4
NOWHERE = "http://127.0.0.1:9"
MANIFESTS = sorted(DEPLOY.glob("kubernetes/**/*.yaml"))


def of_image(name: str) -> list[Any]:
    return [instruction for instruction in FINAL if instruction.name == name]


def test_the_image_runs_a_command_of_the_service_as_a_numeric_user():
    (user,), (entrypoint,), (command,) = of_image("USER"), of_image("ENTRYPOINT"), of_image("CMD")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.text)
    assert FINAL.index(user) > max(FINAL.index(run) for run in of_image("RUN"))
    assert entrypoint.words[-1] == OCTO.name
    assert command.words[0] in {"serve", *OCTO.commands}


def test_signals_reach_the_server_that_the_image_runs():
    forms = [instruction for name in ("ENTRYPOINT", "CMD") for instruction in of_image(name)]
    assert [form for form in forms if not form.is_exec_form] == []
    assert forms[0].words[0] == "tini"
    assert [stop.text for stop in of_image("STOPSIGNAL")] == ["SIGTERM"]
    (health,) = of_image("HEALTHCHECK")
    assert health.text.startswith("CMD [")


@pytest.fixture(params=["http", "https"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of a server without TLS, and of one with a certificate of another name than the check uses."""
    if request.param == "http":
        return {}
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    issued = trustme.CA().issue_cert("robots.lab.example")
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    return {"tls_cert": str(cert), "tls_key": str(key)}


def test_the_images_health_check_asks_a_server_the_way_it_is_served(settings: dict[str, Any], tmp_path: Path):
    config = ServerConfig(cache_dir=tmp_path, renderer="raycast", scene_workers=1, **settings)
    environment = {f"VLA_{name.upper()}": value for name, value in settings.items()}
    with serving(create_vla_app(EchoAdapter(), config, model_id="echo")) as url:
        environment["VLA_PORT"] = url.rpartition(":")[2]
        deadline = time.monotonic() + 60
        while said := health_check(environment):
            assert time.monotonic() < deadline, said
    assert "Connection refused" in health_check(environment)


def health_check(environment: dict[str, str]) -> str:
    """Return what the image's command complains of, which ends with 0 otherwise; a proxy is set that leads nowhere."""
    (health,) = of_image("HEALTHCHECK")
    _python, *arguments = json.loads(health.text.removeprefix("CMD "))
    environment = {**os.environ, **environment, "http_proxy": NOWHERE, "https_proxy": NOWHERE}
    ended = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert bool(ended.returncode) == bool(ended.stderr)
    return ended.stderr


def test_the_images_base_is_a_suite_and_its_tools_stay_in_the_first_stage():
    (base,) = (each.text for each in INSTRUCTIONS[: INSTRUCTIONS.index(BUILD[0])])
    assert re.fullmatch(r"BASE=debian:[a-z]+-slim", base)
    assert [stage[0].words[0] for stage in (BUILD, FINAL)] == ["${BASE}"] * 2
    installed = " ".join(run.text for run in of_image("RUN"))
    assert re.search(r"\b(pip|uv|gcc|make|npm|curl)\b", installed) is None
    assert installed.count("--no-install-recommends") == installed.count("apt-get install")


def test_the_image_copies_what_the_repository_has():
    copies = [copy for copy in BUILD if copy.name == "COPY"]
    assert copies
    assert [source for copy in copies for source in copy.words[:-1] if not (ROOT / source).exists()] == []


def test_the_image_leaves_behind_what_git_ignores():
    ignored = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = {line.removeprefix("**/") for line in ignored if not line.startswith("#")}
    assert {".git", ".venv*", ".uv", "__pycache__", "node_modules", "static", "uv.lock", "tests"} <= patterns


def test_the_image_sets_settings_that_the_server_has():
    names = {word.partition("=")[0] for env in of_image("ENV") for word in env.words}
    assert {name for name in names if name.startswith(("VLA_", "OCTO_"))} <= SETTINGS
    (volume,) = of_image("VOLUME")
    folders = [word.partition("=")[2] for env in of_image("ENV") for word in env.words if "CACHE" in word]
    assert folders == [volume.text]


def test_the_extras_of_the_image_are_those_of_octo():
    extras = next(each.text for each in BUILD if each.text.startswith("EXTRAS=")).removeprefix("EXTRAS=").split(",")
    project = (ROOT / "vla-servers" / "octo-small" / "pyproject.toml").read_text()
    named = {*extras, "cuda12", "cuda13"}
    assert {name for name in named if re.search(rf"^{name} = \[", project, re.MULTILINE)} == named


def unit_values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_the_unit_retries_what_may_pass_and_nothing_else():
    assert unit_values("Restart") == ["on-failure"]
    assert unit_values("RestartPreventExitStatus") == [str(STARTUP_FAILURE)]


def test_the_unit_leaves_the_server_the_time_to_end():
    assert unit_values("KillMode") == ["mixed"]
    (timeout,) = unit_values("TimeoutStopSec")
    assert float(timeout) > LONGEST_STOP_S


def test_the_unit_sets_settings_that_the_server_has():
    assert set(re.findall(r"\b((?:VLA|OCTO)_[A-Z_]+)=", UNIT)) <= SETTINGS
    assert unit_values("ExecStart") == ["/opt/vla/bin/octo-service serve"]


@pytest.mark.parametrize(
    "setting",
    ["NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "CapabilityBoundingSet="],
)
def test_the_unit_gives_nothing_away(setting: str):
    assert f"\n{setting}\n" in UNIT
    assert unit_values("User") == ["vla-server"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_systemd_reads_the_unit_without_a_warning(tmp_path: Path):
    copy = tmp_path / "vla-server.service"
    # A program that is there: that of the unit is on the operator's machine.
    copy.write_text(UNIT.replace("/opt/vla/bin/octo-service", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", copy]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr == ""


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "kubernetes" / "base" / name).read_text())


@pytest.fixture
def pod() -> dict[str, Any]:
    return manifest("deployment.yaml")["spec"]["template"]["spec"]


def test_kubernetes_starts_one_pod_that_may_do_nothing_but_serve(pod: dict[str, Any]):
    (container,) = pod["containers"]
    (user,) = of_image("USER")
    assert manifest("deployment.yaml")["spec"]["replicas"] == 1
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == user.text
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_kubernetes_asks_routes_that_the_server_has(pod: dict[str, Any]):
    (container,) = pod["containers"]
    app = create_vla_app(EchoAdapter(), ServerConfig(), model_id="echo")
    routes = app.openapi()["paths"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/health", "readiness": "/health", "liveness": "/live"}
    assert set(paths.values()) <= routes.keys()


def test_kubernetes_leaves_the_server_the_time_to_load_and_to_end(pod: dict[str, Any]):
    (container,) = pod["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + LONGEST_STOP_S
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > ServerConfig().load_retry_s


def test_kubernetes_sets_settings_that_the_server_has(pod: dict[str, Any]):
    (container,) = pod["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert set(names) <= SETTINGS
    assert "VLA_PORT" in names, "Kubernetes sets it too, for a service that is called vla"
    (volume,) = of_image("VOLUME")
    assert volume.text in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_kubernetes_gives_the_server_its_keys_from_a_secret_that_can_change(pod: dict[str, Any]):
    (container,) = pod["containers"]
    (file,) = (each["value"] for each in container["env"] if each["name"] == "VLA_KEYS_FILE")
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "keys")
    # A file that is mounted by itself (subPath) never changes.
    assert (mount["mountPath"], "subPath" in mount) == (str(Path(file).parent), False)
    example = yaml.safe_load((DEPLOY / "kubernetes" / "keys.example.yaml").read_text())
    (volume,) = (each["secret"]["secretName"] for each in pod["volumes"] if each["name"] == "keys")
    assert volume == example["metadata"]["name"]
    assert json.loads(example["stringData"][Path(file).name]) == {"keys": []}


def test_kubernetes_other_objects_are_about_that_pod():
    labels = manifest("deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert manifest("service.yaml")["spec"]["selector"] == labels
    assert manifest("disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("network.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    resources = manifest("kustomization.yaml")["resources"]
    assert {file.name for file in MANIFESTS if file.parent.name == "base"} == {*resources, "kustomization.yaml"}


def variant(name: str) -> dict[str, Any]:
    """Return the pod of a folder that changes the base."""
    overlay = yaml.safe_load((DEPLOY / "kubernetes" / name / "kustomization.yaml").read_text())
    deployment = manifest("deployment.yaml")
    for change in yaml.safe_load(overlay["patches"][0]["patch"]):
        apply(change, deployment)
    return deployment["spec"]["template"]["spec"]


def test_the_variant_for_a_gpu_changes_what_is_there():
    (container,) = variant("gpu")["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["env"][-1] == {"name": "VLA_DEVICE", "value": "gpu"}
    assert container["image"].endswith("-cuda13")


def test_the_variant_with_tls_asks_the_way_it_serves():
    pod = variant("tls")
    (container,) = pod["containers"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert [probe["scheme"] for probe in probes] == ["HTTPS"] * 3
    files = {each["name"]: Path(each["value"]) for each in container["env"] if each["name"].startswith("VLA_TLS")}
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "tls")
    # The keys of a Secret of the type kubernetes.io/tls.
    assert {name: file.name for name, file in files.items()} == {"VLA_TLS_CERT": "tls.crt", "VLA_TLS_KEY": "tls.key"}
    assert {str(file.parent) for file in files.values()} == {mount["mountPath"]}
    assert "tls" in {volume["name"] for volume in pod["volumes"] if "secret" in volume}
    assert files.keys() <= SETTINGS


def apply(change: dict[str, Any], document: Any) -> None:
    """Apply one operation of RFC 6902."""
    *parents, last = (part.replace("~1", "/") for part in change["path"].split("/")[1:])
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    if last == "-":
        document.append(change["value"])
    else:
        assert change["op"] == "add" or last in document, change["path"]
        document[last] = change["value"]


def test_no_image_is_the_latest():
    named = [name for file in MANIFESTS for name in re.findall(r"(?:image|value): (\S+/\S+:\S+)", file.read_text())]
    images = [name for name in named if not name.startswith("hf:")]
    assert images
    assert [name for name in images if name.endswith(":latest")] == []
