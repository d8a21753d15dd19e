"""A hub on loopback that answers huggingface_hub's client as the real one does, errors and redirects too."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_right"
"""A token of the user ``me``; any other is refused."""
_LARGE = (".safetensors", ".onnx", ".onnx_data", ".parquet")
"""Files that lie in large file storage: asking for one is answered with a redirect."""


@dataclass
class Repo:
    """A repository: files by commit, commits by branch or tag."""

    kind: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make a commit of whole content on a branch; returns its hash."""
        told = f"{len(self.commits)}{branch}{sorted(files)}"
        commit = hashlib.sha1(told.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[branch] = commit
        return commit

    def at(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Hub:
    """Repositories by kind and id; ``asked`` are the requests so far, as ``GET /path``."""

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""
    status: int = 200
    """What every request is answered with, where it is not 200."""

    @property
    def store(self) -> str:
        """Where large files lie: on another host than the hub, as the client looks at."""
        return f"{self.address.replace('127.0.0.1', 'localhost')}/large"

    def add(self, repo: str, files: Mapping[str, bytes] | Path, kind: str = "model") -> str:
        """Put files or a folder on a repository's main branch; returns the commit."""
        if isinstance(files, Path):
            files = content(files)
        return self.repos.setdefault((kind, repo), Repo(kind)).commit(files)

    def repo(self, name: str, kind: str = "model") -> Repo:
        return self.repos[kind, name]


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their relative names."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@contextlib.contextmanager
def served() -> Iterator[Hub]:
    """A hub while the context lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub, "protocol_version": "HTTP/1.1"})
    )
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Tests read standard error."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        url = urlsplit(self.path)
        self.hub.asked.append(f"{self.command} {unquote(url.path)}")
        self.query = parse_qs(url.query)
        try:
            if self.hub.status != 200:
                raise _Refusal(self.hub.status, message="out of order")
            self._route(url.path.strip("/").split("/"))
        except _Refusal as refusal:
            headers = {"X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._send(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    @property
    def _user(self) -> str | None:
        """Who asks; None for nobody."""
        given = self.headers.get("Authorization")
        if given is None:
            return None
        if given != f"Bearer {TOKEN}":
            raise _Refusal(401, message="Invalid credentials in Authorization header")
        return "me"

    def _repo(self, kind: str, name: str) -> Repo:
        user = self._user
        found = self.hub.repos.get((kind, name))
        if found is None or (found.private and user is None):
            if user is None:
                raise _Refusal(401, message="Invalid username or password.")
            raise _Refusal(404, "RepoNotFound", "Repository not found")
        return found

    def _commit(self, repo: Repo, revision: str) -> str:
        found = repo.at(unquote(revision))
        if found is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {unquote(revision)}")
        return found

    def _route(self, parts: list[str]) -> None:
        match parts:
            case ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create(json.loads(self.body))
            case ["api", ("models" | "datasets") as kinds, owner, name, *rest]:
                kind = kinds.removesuffix("s")
                repo = self._repo(kind, f"{owner}/{name}")
                self._api(repo, f"{owner}/{name}", rest)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self._file(self._repo("dataset", f"{owner}/{name}"), revision, "/".join(path))
            case [owner, name, "resolve", revision, *path]:
                self._file(self._repo("model", f"{owner}/{name}"), revision, "/".join(path))
            case ["large", oid]:
                if self.command == "PUT":
                    assert hashlib.sha256(self.body).hexdigest() == oid
                    self.hub.large[oid] = self.body
                    self._send(200, b"")
                else:
                    self._send(200, self.hub.large[oid])
            case [owner, name, "info", "lfs", "objects", "batch"]:
                self._repo("model", f"{owner}/{name.removesuffix('.git')}")
                objects = [
                    {**one, "actions": {"upload": {"href": f"{self.hub.store}/{one['oid']}"}}}
                    for one in json.loads(self.body)["objects"]
                ]
                self._json({"transfer": "basic", "objects": objects})
            case _:
                raise _Refusal(404, message=f"no route {parts}")

    def _api(self, repo: Repo, name: str, rest: list[str]) -> None:
        match rest:
            case []:
                self._info(repo, name, "main")
            case ["revision", revision]:
                self._info(repo, name, revision)
            case ["tree", revision, *_]:
                files = repo.commits[self._commit(repo, revision)]
                self._json([_entry(path, data) for path, data in files.items()])
            case ["refs"]:
                branches = [
                    {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": commit}
                    for ref, commit in repo.refs.items()
                ]
                self._json({"branches": branches, "converts": [], "tags": []})
            case ["branch", branch]:
                self._writer()
                if unquote(branch) in repo.refs:
                    raise _Refusal(409, message="Reference already exists")
                repo.refs[unquote(branch)] = repo.refs["main"]
                self._json({})
            case ["preupload", revision]:
                self._commit(repo, revision)
                files = json.loads(self.body)["files"]
                self._json({"files": [_mode(file["path"]) for file in files]})
            case ["commit", revision]:
                self._writer()
                self._commit(repo, revision)
                self._write(repo, name, unquote(revision))
            case _:
                raise _Refusal(404, message=f"no route {rest}")

    def _info(self, repo: Repo, name: str, revision: str) -> None:
        commit = self._commit(repo, revision)
        self._json(
            {
                "id": name,
                "sha": commit,
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "tags": [],
                "siblings": [{"rfilename": path} for path in repo.commits[commit]],
            }
        )

    def _file(self, repo: Repo, revision: str, path: str) -> None:
        if repo.gated:
            user = self._user
            raise _Refusal(403 if user else 401, "GatedRepo", "Access to it is restricted.")
        commit = self._commit(repo, revision)
        data = repo.commits[commit].get(unquote(path))
        if data is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit}
        if path.endswith(_LARGE):
            oid = hashlib.sha256(data).hexdigest()
            self.hub.large[oid] = data
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
            self._send(302, b"", {**headers, "Location": f"{self.hub.store}/{oid}"})
        else:
            self._send(200, data, {**headers, "ETag": f'"{_blob(data)}"'})

    def _writer(self) -> None:
        if self._user is None:
            raise _Refusal(401, message="Invalid username or password.")

    def _create(self, asked: Mapping[str, Any]) -> None:
        self._writer()
        if asked["organization"] != "me":
            raise _Refusal(403, message="You don't have the rights to create a model under it")
        name = f"{asked['organization']}/{asked['name']}"
        if ("model", name) in self.hub.repos:
            raise _Refusal(409, message="You already created this model repo")
        self.hub.add(name, {".gitattributes": b""})
        self.hub.repo(name).private = (
            asked.get("visibility") == "private" or asked.get("private") is True
        )
        self._json({"url": f"{self.hub.address}/{name}", "name": name, "id": "0"})

    def _write(self, repo: Repo, name: str, branch: str) -> None:
        files = dict(repo.commits[repo.refs[branch]])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        commit = repo.commit(files, branch)
        url = f"{self.hub.address}/{name}/commit/{commit}"
        self._json({"commitUrl": url, "commitOid": commit, "hookOutput": "", "success": True})


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "oid": _blob(data), "size": len(data), "path": path}
    if path.endswith(_LARGE):
        oid = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
    return entry


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(_LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}


def _blob(data: bytes) -> str:
    """What git calls a file's content."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
