"""The OpenAPI description of bodies that are read and parsed off the event loop, not by FastAPI; with examples."""

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from vla_server_base.schemas.base import Body
from vla_server_base.server.multipart import IMAGE_MAPS, IMAGES

_SCENE = """<mujoco>
  <worldbody>
    <light pos="0 0 2"/>
    <camera name="primary" pos="0.8 0 0.8" xyaxes="0 1 0 -0.7 0 0.7"/>
    <geom type="plane" size="1 1 0.1" rgba="0.8 0.8 0.8 1"/>
    <geom type="box" size="0.05 0.05 0.05" pos="0 0 0.05" rgba="0.8 0.1 0.1 1"/>
  </worldbody>
</mujoco>"""
_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mM4oaGBFTEMLQkAgl1GARdiiXUAAAAASUVORK5CYII="

_ARM_SCENE = """<mujoco>
  <worldbody>
    <light pos="0 0 2"/>
    <camera name="primary" pos="1.2 0 0.8" xyaxes="0 1 0 -0.6 0 0.8"/>
    <body gravcomp="1" pos="0 0 0.1"><joint name="j1" axis="0 0 1" range="-2 2" armature="0.1"/>
      <geom type="capsule" size="0.04" fromto="0 0 0 0 0 0.2" mass="1" contype="0" conaffinity="0"/>
      <body gravcomp="1" pos="0 0 0.2"><joint name="j2" axis="0 1 0" range="-2 2" armature="0.1"/>
        <geom type="capsule" size="0.04" fromto="0 0 0 0 0 0.3" mass="1" contype="0" conaffinity="0"/>
        <body gravcomp="1" pos="0 0 0.3"><joint name="j3" axis="0 1 0" range="0 2.5" ref="1" armature="0.1"/>
          <geom type="capsule" size="0.03" fromto="0 0 0 0.3 0 0" mass="1" contype="0" conaffinity="0"/>
          <site name="tip" pos="0.3 0 0"/></body></body></body>
  </worldbody>
  <actuator>
    <position joint="j1" kp="200" kv="20"/><position joint="j2" kp="200" kv="20"/>
    <position joint="j3" kp="200" kv="20"/>
  </actuator>
</mujoco>"""

PREDICT_EXAMPLES = {
    "scene": {
        "summary": "A MuJoCo scene, rendered here",
        "value": {"instruction": "pick up the red cube", "xml_string": _SCENE, "seed": 0},
    },
    "image": {
        "summary": "An image from the robot's own camera",
        "value": {"instruction": "pick up the red cube", "image": _IMAGE, "seed": 0},
    },
    "images": {
        "summary": "Images from several cameras, by the policy's names for them",
        "value": {"instruction": "pick up the red cube", "images": {"primary": _IMAGE, "wrist": _IMAGE}, "seed": 0},
    },
}

EXECUTE_EXAMPLES = {
    "described": {
        "summary": "A scene with an arm of three joints, described in the request",
        "value": {
            "instruction": "reach forward",
            "xml_string": _ARM_SCENE,
            "robot": {"joints": ["j1", "j2", "j3"], "end_effector": "tip"},
            "max_steps": 5,
            "seed": 0,
        },
    },
}

GEOMETRY_EXAMPLES = {
    "scene": {"summary": "A MuJoCo scene", "value": {"xml_string": _SCENE}},
}


EPISODE_EXAMPLES = {
    "paused": {
        "summary": "The same, paused before its first step",
        "value": {**EXECUTE_EXAMPLES["described"]["value"], "pace": "real_time", "paused": True},
    },
}

PATCH_EXAMPLES = {
    "step": {"summary": "Execute one more action of a paused episode", "value": {"steps": 1}},
    "change": {"summary": "Go on with another task", "value": {"status": "running", "instruction": "reach back"}},
}

LOAD_MODEL_EXAMPLES = {
    "serve": {
        "summary": "Have new sessions answered by another checkpoint, once it is warm",
        "value": {"model": "bundled://tabletop", "id": "candidate"},
    },
    "shadow": {
        "summary": "See how it would answer, without any robot noticing",
        "value": {"model": "bundled://tabletop", "id": "candidate", "mode": "shadow", "threshold": 0.005},
    },
}

SERVE_MODEL_EXAMPLES = {"roll_back": {"summary": "Roll back to a model that is still held", "value": {}}}


def request_body(kind: type[Body], examples: dict[str, Any]) -> dict[str, Any]:
    """Describe a body, as JSON and as multipart, for a route's `openapi_extra`."""
    json = json_body(kind, examples)["requestBody"]["content"]
    multipart = {"schema": _multipart_schema(kind.__name__, kind.model_fields)}
    return {"requestBody": {"required": True, "content": {**json, "multipart/form-data": multipart}}}


def json_body(kind: type[Body], examples: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that is always JSON, for a route's `openapi_extra`."""
    json = {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}, "examples": examples}
    return {"requestBody": {"required": True, "content": {"application/json": json}}}


def openapi_schema(app: FastAPI, *bodies: type[Body]) -> dict[str, Any]:
    """Describe an app, with the bodies that `request_body` names."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for kind in bodies:
            body = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            schema["components"]["schemas"] |= {**body.pop("$defs", {}), kind.__name__: body}
        app.openapi_schema = schema
    return app.openapi_schema


def _multipart_schema(request: str, fields: Collection[str]) -> dict[str, Any]:
    """Return the schema of a multipart body whose part `request` is the component of that name, with those fields."""
    file = {"type": "string", "format": "binary"}
    parts = {name: file for name in IMAGES if name in fields}
    parts |= {"instruction": {"type": "string"}, "xml": {"type": "string"}, "scene": file}
    parts |= {"assets": {"type": "array", "items": file}, "request": {"$ref": f"#/components/schemas/{request}"}}
    by_camera = {rf"^{name}\..+$": file for name in IMAGE_MAPS if name in fields}
    return {"type": "object", "properties": parts, "patternProperties": by_camera}
