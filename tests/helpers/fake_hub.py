"""A fake hub on the loopback interface, with the endpoints that `huggingface_hub` calls."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class FakeHub:
    """What the hub has.

    Attributes:
        url: Its address.
        repositories: `models/user/name` -> whether it is private.
        commits: (repository, commit) -> path -> content.
        heads: (repository, branch) -> commit.
        requests: Method and path of every request.
        fail_after: Files to hand out before the connection breaks; None for no end.
    """

    def __init__(self) -> None:
        self.url = ""
        self.repositories: dict[str, bool] = {}
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}
        self.heads: dict[tuple[str, str], str] = {}
        self.requests: list[str] = []
        self.fail_after: int | None = None

    def commit(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Makes a commit of exactly these files; its name."""
        content = repr((branch, sorted(files.items()), len(self.commits))).encode()
        name = hashlib.sha1(content).hexdigest()
        self.commits[repository, name] = files
        self.heads[repository, branch] = name
        return name

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes] | None:
        commit = self.heads.get((repository, revision), revision)
        return self.commits.get((repository, commit))


def handler_of(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def reply(self, status: int, body: Any = b"", headers: Any = ()) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def missing(self, code: str) -> None:
            self.reply(404, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            if parts[0] == "api":
                self.api(parts[1:])
            else:
                self.file(parts)

        def api(self, parts: list[str]) -> None:
            repository = "/".join(parts[:3])
            if repository not in hub.repositories:
                return self.missing("RepoNotFound")
            revision = "/".join(parts[4:]) or "main"
            if parts[3:4] == ["tree"]:
                revision = parts[4]
            commit = hub.heads.get((repository, revision), revision)
            files = hub.files(repository, commit)
            if files is None and (parts[3:] or revision != "main"):
                return self.missing("RevisionNotFound")
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in (files or {}).items()
            ]
            if parts[3:4] == ["tree"]:
                return self.reply(200, listed)
            siblings = [{"rfilename": file["path"], "size": file["size"]} for file in listed]
            return self.reply(
                200,
                {
                    "id": "/".join(parts[1:3]),
                    "_id": "0",
                    "private": hub.repositories[repository],
                    "sha": commit if files is not None else None,
                    "siblings": siblings,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                },
            )

        def file(self, parts: list[str]) -> None:
            kind = parts.pop(0) if parts[0] == "datasets" else "models"
            repository, revision = f"{kind}/{parts[0]}/{parts[1]}", parts[3]
            content = (hub.files(repository, revision) or {}).get("/".join(parts[4:]))
            if content is None:
                return self.missing("EntryNotFound")
            headers = {
                "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                "X-Repo-Commit": hub.heads.get((repository, revision), revision),
                "Accept-Ranges": "bytes",
            }
            if self.command == "GET" and hub.fail_after is not None:
                hub.fail_after -= 1
                if hub.fail_after < 0:
                    self.close_connection = True
                    return self.reply(403, b"out of order")  # it is not retried
            return self.reply(200, content, headers)

        def body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"POST {path}")
            body = self.body()
            parts = path.strip("/").split("/")[1:]
            if parts == ["repos", "create"]:
                return self.create(json.loads(body))
            if parts == ["validate-yaml"]:
                return self.reply(200, {"errors": [], "warnings": []})
            repository = "/".join(parts[:3])
            if repository not in hub.repositories:
                return self.missing("RepoNotFound")
            if parts[3] == "preupload":
                asked = json.loads(body)["files"]
                modes = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in asked
                ]
                return self.reply(200, {"files": modes})
            if parts[3] == "branch":
                hub.heads.setdefault(
                    (repository, parts[4]), hub.heads.get((repository, "main"), "")
                )
                return self.reply(200, {})
            if parts[3] == "commit":
                files = dict(hub.files(repository, parts[4]) or {})
                for line in body.splitlines():
                    entry = json.loads(line)
                    value = entry["value"]
                    if entry["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif entry["key"] == "deletedFile":
                        del files[value["path"]]
                name = hub.commit(repository, files, parts[4])
                url = f"{hub.url}/{'/'.join(parts[1:3])}/commit/{name}"
                return self.reply(200, {"success": True, "commitOid": name, "commitUrl": url})
            return self.missing("EntryNotFound")

        def create(self, asked: dict[str, Any]) -> None:
            kind = f"{asked.get('type') or 'model'}s"
            user = asked.get("organization") or "somebody"
            repository = f"{kind}/{user}/{asked['name']}"
            place = {"url": f"{hub.url}/{user}/{asked['name']}"}
            if repository in hub.repositories:
                return self.reply(409, {**place, "error": "You already created this repo"})
            private = asked.get("private") or asked.get("visibility") == "private"
            hub.repositories[repository] = bool(private)
            hub.commit(repository, {".gitattributes": b"* text=auto\n"})
            return self.reply(200, place)

    return Handler


class Quiet(ThreadingHTTPServer):
    """Says nothing when a client that was killed leaves its connection."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[FakeHub]:
    """Yields a hub that answers as long as the block lasts."""
    hub = FakeHub()
    server = Quiet(("127.0.0.1", 0), handler_of(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
