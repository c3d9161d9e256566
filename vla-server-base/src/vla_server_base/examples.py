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

PREDICT_EXAMPLES = {
    "scene": {
        "summary": "A MuJoCo scene, rendered here",
        "value": {"instruction": "pick up the red cube", "xml_string": _SCENE, "seed": 0},
    },
    "image": {
        "summary": "A picture from the robot's own camera",
        "value": {"instruction": "pick up the red cube", "image": _PICTURE, "seed": 0},
    },
}
