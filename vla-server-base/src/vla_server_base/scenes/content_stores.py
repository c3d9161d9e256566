"""What clients sent before and need not send again: files and scenes, by their hash. Threads may share a store.

Whoever knows a hash has the content or was told it by someone who has; nothing here lists them.
"""

import hashlib
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from vla_server_base.errors import AssetMismatch, MissingAsset, UnknownSceneId
from vla_server_base.scenes.messages import Scene

MAX_ITEMS = 10_000
"""Of one store; small items cost more than their bytes."""

Content = TypeVar("Content")


class AssetStore:
    """Files for scenes, by the SHA-256 of their bytes."""

    def __init__(self, max_bytes: int):
        self._recent: _Recent[bytes] = _Recent(max_bytes)

    def put(self, sha256: str, content: bytes) -> bool:
        """Hold a file and return whether it is new; not for the event loop.

        Raises:
            AssetMismatch: the file's hash is another.
        """
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise AssetMismatch(
                f"the body's SHA-256 is {found}, the address says '{sha256[:80]}'",
                hint=f"PUT the {len(content)} bytes at /assets/{found}, or the whole file here",
            )
        return self._recent.put(sha256, content, len(content))

    def __contains__(self, sha256: str) -> bool:
        return self._recent.get(sha256) is not None

    def get(self, sha256: str, name: str) -> bytes:
        """Return a file that a scene calls `name`.

        Raises:
            MissingAsset: it never came, or others have taken its place.
        """
        content = self._recent.get(sha256)
        if content is None:
            raise MissingAsset(
                f"the asset '{name[:80]}' is named by the hash '{sha256[:80]}', which is not held here",
                hint=f"PUT /assets/{sha256[:80]}, then send this request again",
            )
        return content


class SceneStore:
    """Scenes that were answered, by their key."""

    def __init__(self, max_bytes: int):
        self._recent: _Recent[Scene] = _Recent(max_bytes)

    def remember(self, scene: Scene) -> None:
        """Hold a scene that compiled."""
        self._recent.put(scene.key, scene, len(scene.xml) + sum(map(len, scene.assets.values())))

    def get(self, scene_id: str) -> Scene:
        """Return a scene.

        Raises:
            UnknownSceneId: it was never answered, or others have taken its place.
        """
        scene = self._recent.get(scene_id)
        if scene is None:
            raise UnknownSceneId(
                f"scene_id '{scene_id[:80]}' is not held here",
                hint="send the scene again; the reply has its scene_id",
            )
        return scene


class _Recent(Generic[Content]):
    """The most recently used items, up to a size in all; an item that is larger than that is not held."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._items: OrderedDict[str, tuple[Content, int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Content | None:
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def put(self, key: str, content: Content, num_bytes: int) -> bool:
        """Hold an item and return whether it is new."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return False
            if num_bytes <= self._max_bytes:
                self._items[key] = (content, num_bytes)
                self._num_bytes += num_bytes
            while self._num_bytes > self._max_bytes or len(self._items) > MAX_ITEMS:
                self._num_bytes -= self._items.popitem(last=False)[1][1]
            return True
