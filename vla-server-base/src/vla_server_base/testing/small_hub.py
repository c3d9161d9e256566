"""A hub on localhost for the real huggingface_hub client: repositories, revisions, and faults on demand."""

import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

# How the files end that the hub stores by their SHA-256.
LARGE = ("checkpoint", ".safetensors")
NO_SUCH_REPOSITORY = (401, "RepoNotFound", "Invalid username or password.")
NO_SUCH_REVISION = (404, "RevisionNotFound", "Invalid rev id")
NO_SUCH_FILE = (404, "EntryNotFound", "Entry not found")
GATED = (403, "GatedRepo", "Access to this model is restricted.")


@dataclass
class Faults:
    """What goes wrong. Files are named by their path in the repository."""

    status: int | None = None
    """Answer everything with this status."""

    page: bytes | None = None
    """Answer everything with this HTML page, as a firewall does."""

    cut_after: dict[str, int] = field(default_factory=dict)
    """Close the connection after so many bytes of a file's body ..."""

    cuts: Counter[str] = field(default_factory=Counter)
    """... so many times."""

    flipped: set[str] = field(default_factory=set)
    """Send these with one byte changed."""

    absent: set[str] = field(default_factory=set)
    """List these but do not have them."""

    promised: dict[str, int] = field(default_factory=dict)
    """Announce another size than the file has."""


class SmallHub:
    """Serve what `add` is given, at `url`, until the `with` block ends.

    `requests` holds (method, path, Range) of everything that was asked for; `gated` the token that opens
    a repository.
    """

    def __init__(self):
        self.faults = Faults()
        self.gated: dict[str, str] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self._snapshots: dict[str, dict[str, dict[str, bytes]]] = {}
        self._branches: dict[str, dict[str, str]] = {}

    def add(self, name: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Commit files to a branch; returns the commit's hash."""
        content = [f"{path} {hashlib.sha1(data).hexdigest()}" for path, data in sorted(files.items())]
        commit = hashlib.sha1("\n".join(content).encode()).hexdigest()
        self._snapshots.setdefault(name, {})[commit] = dict(files)
        self._branches.setdefault(name, {})[branch] = commit
        return commit

    def files_sent(self) -> list[str]:
        """Name the files whose content was asked for, in order."""
        return [
            path.split("/resolve/")[1].split("/", 1)[1]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        ]

    def __enter__(self) -> "SmallHub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def find(self, name: str, revision: str, token: str | None):
        """Return (commit, files), or the error that the hub answers with."""
        if name not in self._snapshots:
            return NO_SUCH_REPOSITORY
        if name in self.gated and token != f"Bearer {self.gated[name]}":
            return GATED
        commit = self._branches[name].get(revision, revision)
        if commit not in self._snapshots[name]:
            return NO_SUCH_REVISION
        return commit, self._snapshots[name][commit]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: SmallHub, *request):
        self.hub = hub
        super().__init__(*request)

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        path, faults = unquote(urlsplit(self.path).path), self.hub.faults
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if faults.status:
            self._send(faults.status, b"")
        elif faults.page:
            self._send(200, faults.page, {"Content-Type": "text/html"})
        elif path.startswith("/api/models/"):
            self._answer_for(*path.removeprefix("/api/models/").split("/"))
        else:
            self._answer_for(*path.removeprefix("/").split("/"))

    def _answer_for(self, organization: str, name: str, kind: str = "info", revision: str = "main", *path: str):
        """Answer for one repository: `kind` is what follows its name in the address."""
        found = self.hub.find(f"{organization}/{name}", revision, self.headers.get("Authorization"))
        if len(found) == 3:
            self._refuse(*found)
        elif kind == "resolve":
            self._send_file("/".join(path), *found)
        elif kind == "tree":
            self._send_json([_listed(path, data) for path, data in found[1].items()])
        else:
            siblings = [{"rfilename": path} for path in found[1]]
            self._send_json({"id": f"{organization}/{name}", "sha": found[0], "siblings": siblings})

    def _send_file(self, path: str, commit: str, files: Mapping[str, bytes]) -> None:
        faults = self.hub.faults
        if path not in files or path in faults.absent:
            return self._refuse(*NO_SUCH_FILE)
        data = files[path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_etag(path, data)}"'}
        if _is_large(path):
            headers["X-Linked-Etag"] = headers["ETag"]
            headers["X-Linked-Size"] = str(faults.promised.get(path, len(data)))
        if path in faults.flipped:
            data = data[:-1] + bytes([data[-1] ^ 1])
        cut = None
        if self.command == "GET" and faults.cuts[path] > 0:
            faults.cuts[path] -= 1
            cut = faults.cut_after[path]
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self._send(206, data[start:], headers, cut)
        return self._send(200, data, headers, cut)

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps({"error": message}).encode()
        self._send(status, content, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, cut: int | None = None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


def _is_large(path: str) -> bool:
    return path.endswith(LARGE)


def _etag(path: str, data: bytes) -> str:
    """Hash as the hub does: large files by SHA-256, others as git blobs."""
    return hashlib.sha256(data).hexdigest() if _is_large(path) else _git_hash(data)


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _listed(path: str, data: bytes) -> dict:
    entry = {"type": "file", "oid": _git_hash(data), "size": len(data), "path": path}
    if _is_large(path):
        entry["lfs"] = {"oid": _etag(path, data), "size": len(data), "pointerSize": 134}
    return entry
