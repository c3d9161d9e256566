"""Compare the pods of a RayService with Kubernetes' schema; kubernetes-validate does not know that kind."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # pyright: ignore[reportMissingImports]  # a tool brings it
import yaml

VERSION = "1.37"


def templates(node: Any) -> Iterator[dict[str, Any]]:
    """Return the pod templates within a manifest, those in a patch of kustomize included."""
    if isinstance(node, list):
        for each in node:
            yield from templates(each)
    elif isinstance(node, dict):
        if isinstance(node.get("patch"), str):
            yield from templates(yaml.safe_load(node["patch"]))
        if "containers" in node.get("spec", {}):
            yield node
        for each in node.values():
            yield from templates(each)


for path in map(Path, sys.argv[1:]):
    found = list(templates(list(yaml.safe_load_all(path.read_text()))))
    assert found, f"{path} has no pods"
    for template in found:
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        try:
            kubernetes_validate.validate(pod, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            sys.exit(f"{path}: {error.path}: {error.message}")
