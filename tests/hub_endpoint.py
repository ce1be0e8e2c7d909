"""An endpoint on this machine that takes uploads as the Hub does, as far as an upload of small files asks for it."""

import base64
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


class _Handler(BaseHTTPRequestHandler):
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
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
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
