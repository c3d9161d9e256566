"""Requests that run as they stand; the pages at /docs show them."""

_SCENE = """<mujoco>
  <worldbody>
    <light pos="0 0 2"/>
    <camera name="primary" pos="0.8 0 0.8" xyaxes="0 1 0 -0.7 0 0.7"/>
    <geom type="plane" size="1 1 0.1" rgba="0.8 0.8 0.8 1"/>
    <geom type="box" size="0.05 0.05 0.05" pos="0 0 0.05" rgba="0.8 0.1 0.1 1"/>
  </worldbody>
</mujoco>"""
_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mM4oaGBFTEMLQkAgl1GARdiiXUAAAAASUVORK5CYII="

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
        "summary": "A picture from the robot's own camera",
        "value": {"instruction": "pick up the red cube", "image": _PICTURE, "seed": 0},
    },
    "images": {
        "summary": "Pictures from several cameras, by the policy's names for them",
        "value": {"instruction": "pick up the red cube", "images": {"primary": _PICTURE, "wrist": _PICTURE}, "seed": 0},
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
