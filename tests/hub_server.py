"""A hub of one repository on this machine: as much of the interface as downloading a snapshot takes."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = 'c0ffee' * 6 + 'c0ff'


class _Hub(BaseHTTPRequestHandler):
    """Serves ``folder`` as owner/name; the other names of :data:`REFUSED` are refused."""

    folder: Path
    asked: list[str]
    protocol_version = 'HTTP/1.1'

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.send(404, b'{}')

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        for name, (status, code) in REFUSED.items():
            if f'owner/{name}' in path or (name == 'revision' and 'no-such-revision' in path):
                return self.send(status, b'{}', {'X-Error-Code': code})
        files = sorted(file for file in self.folder.rglob('*') if file.is_file())
        names = {file.relative_to(self.folder).as_posix(): file for file in files}
        if path.startswith('/api/models/owner/name/tree/'):
            rows = [
                {
                    'type': 'file',
                    'path': name,
                    'size': file.stat().st_size,
                    'oid': hashlib.sha1(name.encode()).hexdigest(),
                }
                for name, file in names.items()
            ]
            return self.send(200, json.dumps(rows).encode())
        if path.startswith('/api/models/owner/name'):
            about = {'id': 'owner/name', 'sha': COMMIT, 'private': False, 'downloads': 0, 'likes': 0, 'tags': []}
            return self.send(200, json.dumps(about | {'siblings': [{'rfilename': name} for name in names]}).encode())
        name = path.removeprefix(f'/owner/name/resolve/{COMMIT}/')
        if name not in names:
            return self.send(404, b'', {'X-Error-Code': 'EntryNotFound'})
        content = names[name].read_bytes()
        return self.send(200, content, {'ETag': f'"{hashlib.sha256(content).hexdigest()}"', 'X-Repo-Commit': COMMIT})

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {'Content-Length': str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


# Status and code of the answer to whoever asks for owner/NAME, or for a revision that is not there
REFUSED = {'absent': (401, 'RepoNotFound'), 'gated': (403, 'GatedRepo'), 'revision': (404, 'RevisionNotFound')}


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that holds ``folder`` as owner/name, and the paths that it was asked for."""
    handler = type('Hub', (_Hub,), {'folder': folder, 'asked': []})
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}', handler.asked
        server.shutdown()
