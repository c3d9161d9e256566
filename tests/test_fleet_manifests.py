"""The manifests for KubeRay fit the program: Serve's configuration, settings, ports, labels, and what pods may do."""

import ast
import copy
import re
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml
from test_deploy import DEPLOY, ROOT, SETTINGS, apply, of_image

from vla_server_base.config import ServerConfig
from vla_server_base.fleet.autoscaling import POLICY
from vla_server_base.server.app import create_vla_app
from vla_server_base.sessions.token import KEY_FILE, TokenSeal
from vla_server_base.testing import EchoAdapter

# Ray Serve's own, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")

FLEET, TWO_POLICIES = DEPLOY / "kubernetes" / "fleet", DEPLOY / "kubernetes" / "fleet-two-policies"
APPLICATION = "vla_server_base.fleet.application:application"


def documents(*folders: Path) -> list[dict[str, Any]]:
    files = [path for folder in folders for path in sorted(folder.glob("*.yaml")) if path.stem != "kustomization"]
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def objects_of(folder: Path) -> list[dict[str, Any]]:
    """Return what kustomize makes of a folder."""
    if folder == FLEET:
        return documents(FLEET)
    objects = documents(FLEET, folder)
    (patch,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]
    (service,) = of_kind("RayService", objects)
    assert (patch["target"]["kind"], patch["target"]["name"]) == (service["kind"], service["metadata"]["name"])
    for change in yaml.safe_load(patch["patch"]):
        apply(change, service)
    return objects


@pytest.fixture(params=[FLEET, TWO_POLICIES], ids=lambda folder: folder.name)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return objects_of(request.param)


@pytest.fixture
def spec(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (service,) = of_kind("RayService", objects)
    return service["spec"]


@pytest.fixture
def serve_config(spec: dict[str, Any]) -> dict[str, Any]:
    return yaml.safe_load(spec["serveConfigV2"])


@pytest.fixture
def groups(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The groups of pods by the tier that their label names."""
    cluster = spec["rayClusterConfig"]
    return {group["labels"]["vla-tier"]: group for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]}


def container_of(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    return container


def deployments_of(serve_config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Return each application with each of its deployments."""
    for application in serve_config["applications"]:
        for deployment in application["deployments"]:
            yield application, deployment


def names_that_nobody_reads(value: Any, annotation: Any) -> list[str]:
    """Return the names in a configuration that its model does not have; pydantic would pass over them."""
    models = [each for each in (annotation, *typing.get_args(annotation)) if isinstance(each, type)]
    model = next((each for each in models if issubclass(each, pydantic.BaseModel)), None)
    if isinstance(value, list):
        return [name for each in value for name in names_that_nobody_reads(each, annotation)]
    if model is None or not isinstance(value, dict):
        return []
    fields = model.model_fields
    known = {name: field.annotation for name, field in fields.items() if name in value}
    inner = [name for key in known for name in names_that_nobody_reads(value[key], known[key])]
    return [name for name in value if name not in fields] + inner


def test_serve_reads_all_of_its_configuration(serve_config: dict[str, Any]):
    from ray.serve.schema import ServeDeploySchema

    config = copy.deepcopy(serve_config)
    read = ServeDeploySchema.model_validate(config)
    assert read.proxy_location == "Disabled"
    assert names_that_nobody_reads(serve_config, ServeDeploySchema) == []
    config["applications"][0]["deployments"][0]["ray_actor_options"]["gpus"] = 1
    config["applications"][0]["runtime"] = {}
    assert {*names_that_nobody_reads(config, ServeDeploySchema)} == {"runtime", "gpus"}


def test_the_configuration_names_what_the_code_has(serve_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    fleet = pytest.importorskip("vla_server_base.fleet.application")
    module, _, name = APPLICATION.partition(":")
    assert (fleet.__name__, fleet.application.__name__) == (module, name)
    for application in serve_config["applications"]:
        assert application["import_path"] == APPLICATION
        if application["name"] == "octo":
            for variable, value in application["runtime_env"]["env_vars"].items():
                monkeypatch.setenv(variable, value)
            ingress = fleet.application(application["args"])._bound_deployment
            (model,) = (each._bound_deployment for each in ingress.init_args if hasattr(each, "_bound_deployment"))
            assert {each["name"] for each in application["deployments"]} == {ingress.name, model.name}
            scaling = model._deployment_config.autoscaling_config
            assert scaling.policy.policy_function == POLICY
            assert scaling.max_replicas == application["args"]["max_model_replicas"]


def test_the_program_of_each_application_is_there_with_its_settings(serve_config: dict[str, Any]):
    for application in serve_config["applications"]:
        module, _, name = application["args"]["program"].partition(":")
        (file,) = ROOT.glob(f"vla-servers/*/src/{module.replace('.', '/')}.py")
        assert re.search(rf"^{name} = PolicyProgram\(", file.read_text(), re.MULTILINE)
        known = SETTINGS | {f"LEROBOT_{name.upper()}" for name in fields_in(file.with_name("config.py"))}
        assert application["runtime_env"]["env_vars"].keys() <= known


def fields_in(file: Path) -> set[str]:
    """Return the fields of the classes in a file, without importing what only another environment has."""
    statements = [each for each in ast.walk(ast.parse(file.read_text())) if isinstance(each, ast.AnnAssign)]
    return {each.target.id for each in statements if isinstance(each.target, ast.Name)}


def test_robots_reach_the_port_of_each_applications_server(
    serve_config: dict[str, Any], groups: dict[str, dict[str, Any]], objects: list[dict[str, Any]]
):
    routes = create_vla_app(EchoAdapter(), ServerConfig(), model_id="echo").openapi()["paths"]
    services = {each["spec"]["selector"]["vla-tier"]: each["spec"] for each in of_kind("Service", objects)}
    ports = []
    for application, deployment in deployments_of(serve_config):
        if deployment["name"] == "ingress":
            tier = deployment["ray_actor_options"]["label_selector"]["vla-tier"]
            container, (port,) = container_of(groups[tier]), services[tier]["ports"]
            assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": port["targetPort"]}
            assert container["ports"] == [{"name": port["targetPort"], "containerPort": port["port"]}]
            assert application["runtime_env"]["env_vars"]["VLA_PORT"] == str(port["port"])
            assert services[tier]["sessionAffinity"] == "ClientIP"
            ports.append(port["port"])
    assert "/health" in routes
    assert len({*ports}) == len(ports) == len(services)


def test_every_replica_has_a_pod_that_is_large_enough(serve_config: dict[str, Any], groups: dict[str, dict[str, Any]]):
    for application, deployment in deployments_of(serve_config):
        options = deployment["ray_actor_options"]
        group = groups[options["label_selector"]["vla-tier"]]
        limits = container_of(group)["resources"]["limits"]
        assert options["num_cpus"] <= float(limits["cpu"])
        assert options.get("num_gpus", 0) == float(limits.get("nvidia.com/gpu", 0))
        args = application["args"]
        if deployment["name"] == "model":
            assert group["maxReplicas"] > args["max_model_replicas"], "one more for an update"
        else:
            assert group["replicas"] == args["ingress_replicas"]
            assert 2 * options["num_cpus"] <= float(limits["cpu"]), "two on a pod during an update"


def test_labels_that_are_selected_are_those_of_pods(objects: list[dict[str, Any]], groups: dict[str, dict[str, Any]]):
    labels = [
        group["template"]["metadata"]["labels"] | {"vla-tier": tier} | group["labels"] for tier, group in groups.items()
    ]
    selectors = [each["spec"]["selector"] for each in of_kind("Service", objects)]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget", objects)]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind("NetworkPolicy", objects)]
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector
    in_budgets = {
        each["spec"]["selector"]["matchLabels"]["vla-tier"] for each in of_kind("PodDisruptionBudget", objects)
    }
    assert in_budgets == groups.keys()


def test_rays_ports_are_for_the_fleet_and_need_a_token(objects: list[dict[str, Any]], spec: dict[str, Any]):
    assert spec["rayClusterConfig"]["authOptions"]["mode"] == "token"
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "vla-fleet"}}}
    for policy in of_kind("NetworkPolicy", objects):
        for rule in policy["spec"]["ingress"]:
            # All ports for the fleet itself; others name the port.
            assert ("ports" not in rule) == (rule["from"] == [own])
    named = [port["port"] for each in of_kind("NetworkPolicy", objects) for port in opened_by(each)]
    assert set(named) == {"http", 8265}


def opened_by(policy: dict[str, Any]) -> list[dict[str, Any]]:
    return [port for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])]


def test_pods_may_do_nothing_but_serve(spec: dict[str, Any], groups: dict[str, dict[str, Any]]):
    (user,) = of_image("USER")
    # KubeRay adds this container to the head's pod.
    autoscaler = spec["rayClusterConfig"]["autoscalerOptions"]
    for tier, group in groups.items():
        pod = group["template"]["spec"]
        context = pod["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user.text
        assert context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        # The head's autoscaler asks Kubernetes for pods.
        assert pod.get("automountServiceAccountToken", True) == (tier == "head")
        for container in [*pod["containers"], *pod.get("initContainers", []), autoscaler]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_a_server_has_the_time_to_end(serve_config: dict[str, Any], groups: dict[str, dict[str, Any]]):
    for application, deployment in deployments_of(serve_config):
        if deployment["name"] == "ingress":
            grace_s = float(application["runtime_env"]["env_vars"]["VLA_SHUTDOWN_GRACE_S"])
            group = groups[deployment["ray_actor_options"]["label_selector"]["vla-tier"]]
            pause_s = container_of(group)["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert group["template"]["spec"]["terminationGracePeriodSeconds"] > pause_s + grace_s + 10


def test_ray_is_of_the_version_that_is_tested(spec: dict[str, Any]):
    import ray

    version = spec["rayClusterConfig"]["rayVersion"]
    assert version.split(".")[:2] == ray.__version__.split(".")[:2]


def test_every_secret_is_made_by_a_command_that_is_named(objects: list[dict[str, Any]], spec: dict[str, Any]):
    commands = (FLEET / "kustomization.yaml").read_text()
    made = set(re.findall(r"create secret generic (\S+)", commands))
    groups = spec["rayClusterConfig"]["workerGroupSpecs"]
    mounted = {
        volume["secret"]["secretName"]
        for group in groups
        for volume in group["template"]["spec"]["volumes"]
        if "secret" in volume
    }
    assert made == {*mounted, spec["rayClusterConfig"]["authOptions"]["secretName"]}


def test_ingress_pods_sign_sessions_with_one_key(groups: dict[str, dict[str, Any]], tmp_path: Path):
    (cache,) = (word.partition("=")[2] for env in of_image("ENV") for word in env.words if "VLA_CACHE_DIR" in word)
    for tier in [tier for tier in groups if tier.startswith("ingress")]:
        (init,) = groups[tier]["template"]["spec"]["initContainers"]
        program, mode, source, target = init["command"]
        assert (Path(source).name, target) == (KEY_FILE, f"{cache}/{KEY_FILE}")
        mounts = {each["name"]: each["mountPath"] for each in init["volumeMounts"]}
        assert mounts == {"cache": cache, "session-key": str(Path(source).parent)}
        # As a Secret is mounted: others of the group may read it.
        (tmp_path / "secret").write_bytes(bytes(range(32)))
        (tmp_path / "secret").chmod(0o440)
        seals = []
        for pod in ("a", "b"):
            (tmp_path / tier / pod).mkdir(parents=True)
            subprocess.run([program, mode, tmp_path / "secret", tmp_path / tier / pod / KEY_FILE], check=True)
            seals.append(TokenSeal(tmp_path / tier / pod, "octo", max_age_s=60.0))
        assert seals[1].has_signed(seals[0].sealed({"version": 1}))


def test_kustomize_lists_every_file():
    for folder in (FLEET, TWO_POLICIES):
        resources = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert {each for each in resources if each != "../fleet"} == files


def test_a_second_policy_leaves_the_first_ones_configuration_as_it_is():
    (first,) = yaml.safe_load(of_kind("RayService", objects_of(FLEET))[0]["spec"]["serveConfigV2"])["applications"]
    second = yaml.safe_load(of_kind("RayService", objects_of(TWO_POLICIES))[0]["spec"]["serveConfigV2"])["applications"]
    assert second[0] == first
    assert second[1]["runtime_env"]["py_executable"] == "/opt/lerobot/bin/python"
