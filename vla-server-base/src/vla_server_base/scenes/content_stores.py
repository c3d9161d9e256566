"""Files and scenes that clients sent before and need not send again, by their hash; and what was made of scenes.

Threads may share a store. A hash is only known to those who have the content, and to whom they give it; no request
lists hashes.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import LRUCache

from vla_server_base.errors import AssetMismatch, MissingAsset, UnknownSceneId
from vla_server_base.monitoring.cache_lookups import CacheLookups
from vla_server_base.scenes.messages import Scene

MAX_ITEMS = 10_000
"""Of one store; small items cost more than their bytes, so that each counts for its share of the store at least."""

Content = TypeVar("Content")


class AssetStore:
    """Files for scenes, by the SHA-256 of their bytes."""

    def __init__(self, max_bytes: int):
        self.contents: ContentCache[bytes] = ContentCache(max_bytes, len)

    def put(self, sha256: str, content: bytes) -> bool:
        """Keep a file and return whether it is new; not for the event loop.

        Raises:
            AssetMismatch: the file has another hash.
        """
        actual = hashlib.sha256(content).hexdigest()
        if actual != sha256:
            raise AssetMismatch(
                f"the body's SHA-256 is {actual}, the address says '{sha256[:80]}'",
                hint=f"PUT the {len(content)} bytes at /assets/{actual}, or the whole file here",
            )
        return self.contents.put(sha256, content)

    def __contains__(self, sha256: str) -> bool:
        return self.contents.get(sha256) is not None

    def get(self, sha256: str, name: str) -> bytes:
        """Return a file that a scene calls `name`.

        Raises:
            MissingAsset: it was never sent, or was evicted.
        """
        content = self.contents.get(sha256)
        if content is None:
            raise MissingAsset(
                f"the asset '{name[:80]}' is named by the hash '{sha256[:80]}', which is not stored here",
                hint=f"PUT /assets/{sha256[:80]}, then send this request again",
            )
        return content


class SceneStore:
    """Scenes that compiled, by their key."""

    def __init__(self, max_bytes: int):
        self.contents: ContentCache[Scene] = ContentCache(max_bytes, lambda scene: scene.num_bytes)

    def put(self, scene: Scene) -> None:
        """Keep a scene that compiled."""
        self.contents.put(scene.key, scene)

    def get(self, scene_id: str) -> Scene:
        """Return a scene.

        Raises:
            UnknownSceneId: it was never sent, or was evicted.
        """
        scene = self.contents.get(scene_id)
        if scene is None:
            raise UnknownSceneId(
                f"scene_id '{scene_id[:80]}' is not stored here",
                hint="send the scene again; the reply has its scene_id",
            )
        return scene


class GeometryStore:
    """The glTF files of scenes in their default state, by the scene's key and the groups of geoms that were wanted."""

    def __init__(self, max_bytes: int):
        self.contents: ContentCache[bytes] = ContentCache(max_bytes, len)

    def put(self, scene_id: str, geom_groups: tuple[int, ...] | None, glb: bytes) -> None:
        """Keep a file."""
        self.contents.put(f"{scene_id} {geom_groups}", glb)

    def get(self, scene_id: str, geom_groups: tuple[int, ...] | None) -> bytes | None:
        """Return a file, or None if it was never made, or was evicted."""
        return self.contents.get(f"{scene_id} {geom_groups}")


class ContentCache(Generic[Content]):
    """The most recently used contents, up to a size in all; a content that is larger than that is not kept."""

    def __init__(self, max_bytes: int, num_bytes: Callable[[Content], int]):
        min_size = max_bytes // MAX_ITEMS
        self._contents: LRUCache[str, Content] = LRUCache(max_bytes, lambda content: max(num_bytes(content), min_size))
        self._lock = threading.Lock()
        self.lookups = CacheLookups()
        """How often there was what a request named."""

    @property
    def num_bytes(self) -> float:
        """The size of all that is kept; small items count for more than their bytes."""
        return self._contents.currsize

    def get(self, key: str) -> Content | None:
        """Return a content, or None if it is not kept."""
        with self._lock:
            content = self._contents.get(key)
            self.lookups.note(content is not None)
            return content

    def put(self, key: str, content: Content) -> bool:
        """Keep a content and return whether it is new."""
        with self._lock:
            is_new = self._contents.get(key) is None
            if is_new and self._contents.getsizeof(content) <= self._contents.maxsize:
                self._contents[key] = content
            return is_new
