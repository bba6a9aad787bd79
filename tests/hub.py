"""A server on this computer that speaks the Hugging Face Hub's API, as far as its client needs it without Xet."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Hub:
    """Repositories: their commits, oldest first, each with its files.

    Attributes:
        token: What a private repository wants.
        cut: Files whose next answers break off after so many bytes, by path.
        wrong: Files of which the last byte is another.
        sent: Bytes of each file that were sent.
        asked: Methods and paths of all requests.
    """

    url: str = ""
    token: str = "hf_a_secret"
    repos: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    sent: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def commit(self, repo: str, number: int) -> str:
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def files(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit and the files of a revision."""
        commits = [self.commit(repo, n) for n in range(len(self.repos[repo]))]
        if revision in commits:
            return revision, self.repos[repo][commits.index(revision)]
        return (commits[-1], self.repos[repo][-1]) if revision == "main" else None


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self, repo: str) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}" or repo not in self.hub.private

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked.append((self.command, self.path))
        parts = self.path.lstrip("/").split("/")
        if self.path == "/":
            return self.answer(200)
        repo = "/".join(parts[:2])
        if len(parts) < 5 or parts[2] != "resolve" or repo not in self.hub.repos or not self.allowed(repo):
            return self.answer(404, X_Error_Code="RepoNotFound")
        found = self.hub.files(repo, parts[3])
        if found is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, files = found
        name = "/".join(parts[4:])
        if name not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        return self.send(name, files[name], commit)

    def send(self, name: str, data: bytes, commit: str) -> None:
        whole, start = len(data), 0
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if name in self.hub.wrong:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if wanted := self.headers.get("Range", ""):
            first, last = wanted.removeprefix("bytes=").split("-")
            start = int(first)
            data = data[start : int(last) + 1 if last else None]
            headers["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{whole}"
        if self.command == "GET" and self.hub.cut.get(name):
            part = data[: self.hub.cut[name].pop(0)]
            self.send_response(206 if wanted else 200)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(part)
            self.hub.sent[name] += len(part)
            self.close_connection = True
            return
        if self.command == "GET":
            self.hub.sent[name] += len(data)
        self.answer(206 if wanted else 200, data, **headers)

    def do_POST(self) -> None:
        self.hub.asked.append((self.command, self.path))
        data, path = self.body(), self.path.split("?")[0]
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.json({"error": "who are you?"}, 401)
        if path == "/api/repos/create":
            wanted = json.loads(data)
            repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            if repo in self.hub.repos:
                return self.json({"url": f"{self.hub.url}/{repo}"}, 409)
            self.hub.repos[repo] = [{}]
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.hub.private.add(repo)
            return self.json({"url": f"{self.hub.url}/{repo}"})
        if "/preupload/" in path:
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".gz") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(data)["files"]
            ]
            return self.json({"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.hub.url}/objects/{o['oid']}", "header": {}}}}
                for o in json.loads(data)["objects"]
            ]
            return self.json({"transfer": "basic", "objects": objects})
        if "/commit/" in path:
            repo = "/".join(path.split("/")[3:5])
            files = dict(self.hub.repos[repo][-1])
            for line in map(json.loads, data.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
            self.hub.repos[repo].append(files)
            oid = self.hub.commit(repo, len(self.hub.repos[repo]) - 1)
            return self.json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}"})
        return self.answer(404)

    def do_PUT(self) -> None:
        self.hub.asked.append((self.command, self.path))
        data = self.body()
        oid = self.path.rsplit("/", 1)[-1]
        if hashlib.sha256(data).hexdigest() != oid:
            return self.answer(400)
        self.hub.objects[oid] = data
        return self.answer(200)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a Hub without repositories, which huggingface_hub takes for the real one."""
    hub = Hub()
    handler = type("OneHub", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # its other protocol for uploads
        monkeypatch.setenv("HF_ENDPOINT", hub.url)  # for other processes
        monkeypatch.setenv("HF_TOKEN", hub.token)
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
