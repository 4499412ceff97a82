"""The Hugging Face Hub's interface for uploads, played by a server of the tests' own.

Repositories, their files and stored objects lie in memory. Files of over `LARGE` bytes are stored as LFS objects.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

LARGE = 50_000
TOKEN = "hf_of_the_tests"


@dataclass
class Repository:
    """A repository: its files by name, and the messages of its commits."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return f"{len(self.commits):040x}"


@dataclass
class Hub:
    """What the server holds, and what was asked of it: `sent` are the digests of objects in the order they came."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuse: Callable[[str], tuple[int, str] | None] = lambda path: None
    """Status and message for paths that are refused."""
    before_object: Callable[[], None] = lambda: None
    """Called when half of an object has come."""


def handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self, value: Any, status: int = 200, **headers: str) -> None:
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def refused(self) -> bool:
            path = self.path.split("?")[0]
            hub.asked.append(f"{self.command} {path}")
            found = hub.refuse(path)
            if found is None and path.startswith("/api/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                found = (401, "Invalid username or password.")
            if found is not None:
                self.body()
                self.answer({"error": found[1]}, found[0], X_Error_Message=found[1])
            return found is not None

        def do_PUT(self) -> None:
            if self.refused():
                return
            size = int(self.headers["Content-Length"])
            first = self.rfile.read(size // 2)
            hub.before_object()
            content = first + self.rfile.read(size - size // 2)
            if len(content) < size:  # whoever sent it is gone
                return
            digest = self.path.removeprefix("/objects/")
            assert hashlib.sha256(content).hexdigest() == digest
            hub.objects[digest] = content
            hub.sent.append(digest)
            self.answer({})

        def do_POST(self) -> None:
            if self.refused():
                return
            path, content = self.path.split("?")[0], self.body()
            if path == "/api/repos/create":
                self.create(json.loads(content))
            elif path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif path.endswith("/info/lfs/objects/batch"):
                self.answer({"objects": [self.action(each) for each in json.loads(content)["objects"]]})
            elif "/preupload/" in path:
                self.answer({"files": [self.mode(each) for each in json.loads(content)["files"]]})
            elif path == "/verify":
                asked = json.loads(content)
                self.answer({}, 200 if len(hub.objects[asked["oid"]]) == asked["size"] else 400)
            else:
                assert "/commit/" in path, path
                self.commit([json.loads(line) for line in content.splitlines()])

        def create(self, asked: dict[str, Any]) -> None:
            name = f"{asked['organization']}/{asked['name']}"
            if name in hub.repositories:
                self.answer({"error": "You already created this model repo", "url": f"{hub.address}/{name}"}, 409)
                return
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            files = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
            hub.repositories[name] = Repository(private, files, ["initial commit"])
            self.answer({"url": f"{hub.address}/{name}"})

        def action(self, asked: dict[str, Any]) -> dict[str, Any]:
            known = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] in hub.objects:
                return known
            upload, verify = {"href": f"{hub.address}/objects/{asked['oid']}"}, {"href": f"{hub.address}/verify"}
            return {**known, "actions": {"upload": upload, "verify": verify}}

        def mode(self, asked: dict[str, Any]) -> dict[str, Any]:
            large = asked["size"] > LARGE
            there = self.repository().files.get(asked["path"])
            oid = None
            if there is not None:
                git = hashlib.sha1(b"blob %d\0" % len(there) + there).hexdigest()
                oid = hashlib.sha256(there).hexdigest() if large else git
            mode = "lfs" if large else "regular"
            return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

        def commit(self, lines: list[dict[str, Any]]) -> None:
            repository = self.repository()
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    repository.commits.append(value["summary"])
                elif line["key"] == "file":
                    repository.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    repository.files[value["path"]] = hub.objects[value["oid"]]
                elif line["key"] == "deletedFile":
                    del repository.files[value["path"]]
                else:
                    raise ValueError(line)
            self.answer(
                {"commitUrl": f"{hub.address}/{self.name()}/commit/{repository.sha}", "commitOid": repository.sha}
            )

        def name(self) -> str:
            """The repository that is asked about; data sets have `datasets/` before their names."""
            path = self.path.split("?")[0].removeprefix("/api").removeprefix("/models").strip("/").split("/")
            return "/".join(path[: 3 if path[0] == "datasets" else 2])

        def repository(self) -> Repository:
            return hub.repositories[self.name()]

        def do_GET(self) -> None:
            if self.refused():
                return
            try:
                repository = self.repository()
            except KeyError:
                self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                return
            if "/tree/" in self.path:
                sizes = {name: len(content) for name, content in repository.files.items()}
                self.answer([{"type": "file", "path": p, "size": n, "oid": "0" * 40} for p, n in sizes.items()])
                return
            if self.path.startswith("/api/"):
                siblings = [{"rfilename": name} for name in repository.files]
                about = {"id": self.name(), "sha": repository.sha, "private": repository.private, "siblings": siblings}
                self.answer({**about, "tags": [], "downloads": 0, "likes": 0})
                return
            name = self.path.split("?")[0].split("/resolve/")[1].split("/", 1)[1]
            if name not in repository.files:
                self.answer(b"", 404, X_Error_Code="EntryNotFound")
                return
            content = repository.files[name]
            digest = hashlib.sha256(content).hexdigest()
            self.answer(content, ETag=f'"{digest}"', X_Repo_Commit=repository.sha)

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def environment(hub: Hub, cache: Path) -> dict[str, str]:
    """Variables by which a program talks to a hub, logged in."""
    return {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": TOKEN,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": "1",  # the hub of the tests stores LFS objects
    }


def talk_to(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process talk to a hub, logged in."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for name, value in environment(hub, cache).items():
        if name != "HF_TOKEN":
            constant = name.removeprefix("HF_") if name == "HF_ENDPOINT" else name
            monkeypatch.setattr(f"huggingface_hub.constants.{constant}", True if value == "1" else value)
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextmanager
def served_hub() -> Iterator[Hub]:
    """A hub that is served until the block ends."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub)) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
