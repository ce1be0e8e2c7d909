"""An endpoint on this machine that takes uploads, and gives files back, as far as small files of the Hub ask for it."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubEndpoint(ThreadingHTTPServer):
    """Repositories by name: whether they are private, and the files of each commit with its message."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private = {}
        self.commits = {}
        self.tokens = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, name):
        """The files of a repository after its last commit, by path."""
        return {path: content for _, files in self.commits.get(name, []) for path, content in files.items()}

    def head(self, name):
        """The number of its last commit."""
        return f"{len(self.commits[name]):040x}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?")[0].strip("/").split("/")
        if path[:2] == ["api", "models"] and "/".join(path[2:4]) in self.server.commits:
            name = "/".join(path[2:4])
            files = self.server.files(name)
            if path[4:5] == ["tree"]:
                rows = [{"type": "file", "path": file, "size": len(files[file]), "oid": "0"} for file in files]
                self._answer(200, rows if len(path) == 6 else [])
            else:
                siblings = [{"rfilename": file} for file in files]
                self._answer(200, {"id": name, "modelId": name, "sha": self.server.head(name), "siblings": siblings})
        elif path[2:3] == ["resolve"] and "/".join(path[4:]) in self.server.files("/".join(path[:2])):
            name = "/".join(path[:2])
            content = self.server.files(name)["/".join(path[4:])]
            etag = hashlib.sha1(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": self.server.head(name)})
        elif path[2:3] == ["resolve"] and "/".join(path[:2]) in self.server.commits:
            name = "/".join(path[:2])
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.server.head(name)})
        else:
            self._answer(404, {"error": f"nothing at {self.path}"})

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        path = self.path.split("?")[0].strip("/").split("/")
        if path == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif path == ["api", "validate-yaml"]:
            self._answer(200, {"errors": [], "warnings": []})
        elif path[:2] == ["api", "models"] and path[4:] == ["preupload", "main"]:
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._answer(200, {"files": files})
        elif path[:2] == ["api", "models"] and path[4:] == ["commit", "main"]:
            self._commit("/".join(path[2:4]), [json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404, {"error": f"nothing at {self.path}"})

    def _create(self, wanted):
        name = f"{wanted['organization']}/{wanted['name']}"
        is_new = name not in self.server.private
        # Releases of the client differ in how they say it.
        is_private = wanted.get("private", wanted.get("visibility") == "private")
        self.server.private.setdefault(name, is_private)
        self._answer(200 if is_new else 409, {"url": f"{self.server.url}/{name}", "name": name})

    def _commit(self, name, lines):
        header = next(line["value"] for line in lines if line["key"] == "header")
        files = [line["value"] for line in lines if line["key"] == "file"]
        contents = {file["path"]: base64.b64decode(file["content"]) for file in files}
        commits = self.server.commits.setdefault(name, [])
        commits.append((header["summary"], contents))
        number = f"{len(commits):040x}"
        url = f"{self.server.url}/{name}/commit/{number}"
        self._answer(200, {"commitUrl": url, "commitOid": number, "success": True})

    def _answer(self, status, values):
        self._send(status, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Not on the console."""


@contextmanager
def hub_endpoint():
    server = HubEndpoint()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
