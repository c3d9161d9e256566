"""Small recordings to test with, in the formats of other programs: HDF5 of robomimic and ALOHA, and RLDS."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image as PillowImage


def grey_images(episode: int, length: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Return grey images whose level says the episode and the timestep."""
    level = (40 * episode + 3 * np.arange(length) + 8).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (length, height, width, 3)).copy()


def numbers(episode: int, length: int, dim: int) -> np.ndarray:
    return np.random.default_rng(episode).normal(size=(length, dim))


def encoded(image: np.ndarray, form: str = "JPEG") -> bytes:
    content = io.BytesIO()
    PillowImage.fromarray(image).save(content, form, **({"quality": 95} if form == "JPEG" else {}))
    return content.getvalue()


def write_robomimic(path: Path, lengths: tuple[int, ...] = (5, 6, 7), **attributes: Any) -> Path:
    """Write what robomimic's dataset_states_to_obs.py does, but for the states of the simulation."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        data.attrs.update({name: json.dumps(value) for name, value in attributes.items()})
        for number, length in enumerate(lengths):
            # Not in the order of their names' letters.
            demo = data.create_group(f"demo_{number * 9}")
            demo.attrs["num_samples"] = length
            demo["actions"] = numbers(number, length, 7)
            demo["rewards"], demo["dones"] = np.zeros(length), np.zeros(length)
            for group in ("obs", "next_obs"):
                demo[f"{group}/agentview_image"] = grey_images(number, length)
                demo[f"{group}/robot0_eye_in_hand_image"] = grey_images(number + 2, length, 16, 16)
                demo[f"{group}/agentview_depth"] = np.ones((length, 32, 48, 1), np.float32)
                demo[f"{group}/robot0_eef_pos"] = numbers(number, length, 3)
                demo[f"{group}/robot0_eef_quat"] = numbers(number, length, 4)
                demo[f"{group}/robot0_gripper_qpos"] = numbers(number, length, 2)
                demo[f"{group}/object"] = numbers(number, length, 10)
    return path


def write_aloha(folder: Path, lengths: tuple[int, ...] = (5, 6), *, compressed: bool = True) -> Path:
    """Write what ALOHA's record_episodes.py does: compressed images are padded to one length."""
    folder.mkdir()
    for number, length in enumerate(lengths):
        with h5py.File(folder / f"episode_{number * 9}.hdf5", "w") as file:
            file.attrs["sim"], file.attrs["compress"] = False, compressed
            file["action"] = numbers(number, length, 14)
            file["observations/qpos"] = numbers(number + 1, length, 14)
            file["observations/qvel"] = np.zeros((length, 14))
            for camera in ("cam_high", "cam_left_wrist"):
                images = grey_images(number, length)
                key = f"observations/images/{camera}"
                file[key] = padded([encoded(image) for image in images]) if compressed else images
            if compressed:
                file["compress_len"] = np.zeros((2, length))
    return folder


def padded(contents: list[bytes]) -> np.ndarray:
    longest = max(map(len, contents))
    return np.stack([np.frombuffer(content.ljust(longest, b"\0"), np.uint8) for content in contents])


def write_rlds(folder: Path, lengths: tuple[int, ...] = (5, 6, 7), *, shards: int = 2, split: str = "train") -> Path:
    """Write what TensorFlow Datasets does: in the data folder are the dataset's name and its version."""
    version = folder / "small_robot" / "1.0.0"
    version.mkdir(parents=True, exist_ok=True)
    (version / "features.json").write_text(json.dumps(_mapping({"steps": _steps(), "episode_id": _tensor("string")})))
    counts = [0] * shards
    for shard in range(shards):
        with (version / f"small_robot-{split}.tfrecord-{shard:05d}-of-{shards:05d}").open("wb") as file:
            for number, length in list(enumerate(lengths))[shard::shards]:
                file.write(record(example(rlds_episode(number, length))))
                counts[shard] += 1
    info = {"fileFormat": "tfrecord", "splits": [{"name": split, "shardLengths": [str(count) for count in counts]}]}
    (version / "dataset_info.json").write_text(json.dumps(info))
    return folder


def rlds_episode(number: int, length: int) -> dict[str, Any]:
    """Return one episode's values as they stand in a record: end to end."""
    return {
        "episode_id": [b"a"],
        "steps/action": numbers(number, length, 7),
        "steps/gripper": np.arange(length, dtype=float),
        "steps/is_first": np.arange(length) == 0,
        "steps/language_instruction": [f"do task {number}".encode()] * length,
        "steps/observation/image": [encoded(image) for image in grey_images(number, length)],
        "steps/observation/wrist_image": [encoded(image, "PNG") for image in grey_images(number + 2, length, 16, 16)],
        "steps/observation/depth_image": [encoded(image[..., 0], "PNG") for image in grey_images(number, length)],
        "steps/observation/state": numbers(number + 1, length, 8),
    }


def _steps() -> dict[str, Any]:
    observation = {
        "image": {"image": {"shape": {"dimensions": ["32", "48", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}},
        "wrist_image": {"image": {"shape": {"dimensions": ["-1", "-1", "3"]}, "encodingFormat": "png"}},
        "depth_image": {"image": {"shape": {"dimensions": ["32", "48", "1"]}, "dtype": "uint8"}},
        "state": _tensor("float32", 8),
    }
    features = {
        "action": _tensor("float32", 7),
        "gripper": _tensor("float64"),
        "is_first": _tensor("bool"),
        "language_instruction": {"text": {}, "pythonClassName": "tensorflow_datasets.core.features.text_feature.Text"},
        "observation": _mapping(observation),
    }
    return {"sequence": {"feature": _mapping(features), "length": "-1"}}


def _mapping(features: dict[str, Any]) -> dict[str, Any]:
    return {"featuresDict": {"features": features}}


def _tensor(dtype: str, *shape: int) -> dict[str, Any]:
    shaped = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {"tensor": {"shape": shaped, "dtype": dtype, "encoding": "none"}}


def example(values: dict[str, Any]) -> bytes:
    """Encode a tf.train.Example by the rules of protocol buffers: tag, length, content."""
    features = b"".join(_part(1, _part(1, name.encode()) + _part(2, _feature(value))) for name, value in values.items())
    return _part(1, features)


def _feature(value: Any) -> bytes:
    if isinstance(value, list):
        return _part(1, b"".join(_part(1, content) for content in value))
    flat = np.asarray(value).reshape(-1)
    if flat.dtype.kind == "f":
        return _part(2, _part(1, flat.astype("<f4").tobytes()))
    return _part(3, _part(1, b"".join(_varint(int(number)) for number in flat)))


def _part(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def record(content: bytes) -> bytes:
    """Frame a record of a TFRecord file."""
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(content: bytes) -> bytes:
    crc = _crc32c(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c(content: bytes) -> int:
    """Compute Castagnoli's checksum bit by bit, by its reflected polynomial."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
