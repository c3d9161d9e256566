"""What KServe's Open Inference Protocol (version 2) says of a server and its model."""

from vla_server_base.contract import PolicySpec
from vla_server_base.schemas.base import Reply


class ServerMetadata(Reply):
    """What this is."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(Reply):
    """Whether the process runs, and is of use."""

    live: bool


class ServerReady(Reply):
    """Whether the policy answers."""

    ready: bool


class ModelReady(Reply):
    """Whether the model answers."""

    name: str
    ready: bool


class TensorMetadata(Reply):
    """One array of an observation or of an answer; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Reply):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def model_metadata(name: str, spec: PolicySpec) -> ModelMetadata:
    """Return what a policy takes and gives."""
    inputs = [
        TensorMetadata(name=f"image_{camera.name}", datatype="UINT8", shape=[-1, -1, 3]) for camera in spec.cameras
    ]
    if spec.takes_instruction:
        inputs.append(TensorMetadata(name="instruction", datatype="BYTES", shape=[1]))
    if spec.proprio_dim:
        inputs.append(TensorMetadata(name="proprio", datatype="FP32", shape=[spec.proprio_dim]))
    return ModelMetadata(
        name=name,
        versions=[spec.revision] if spec.revision else [],
        platform=spec.platform,
        inputs=inputs,
        outputs=[TensorMetadata(name="actions", datatype="FP32", shape=[spec.horizon, spec.action_dim])],
    )
