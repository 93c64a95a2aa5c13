"""A server on this machine that serves weights well and badly, and a cache of its own for every test."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from fbnetv3.hub import load


class Server:
    """Serves `files[path]`: bytes, or a callable that answers the request itself. `hits` counts requests."""

    def __init__(self):
        self.files, self.hits = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.hits.append(self.path)
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                elif callable(content):
                    content(self)
                else:
                    send(self, content)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.http.server_port}/{name}"

    def put(self, name, content):
        self.files[f"/{name}"] = content
        return self.url(name)


def send(request, content, length=None):
    request.send_response(200)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content)


def truncated(content):
    """Promise all of it, send half, hang up."""
    return lambda request: send(request, content[: len(content) // 2], len(content))


def slow(content, pause, parts=4):
    """Send in parts with a pause before each."""

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        size = -(-len(content) // parts)
        for start in range(0, len(content), size):
            time.sleep(pause)
            try:
                request.wfile.write(content[start : start + size])
            except OSError:
                return

    return answer


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """torch.hub's folder, empty; and the licence is said anew."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    load._say_licence.cache_clear()
    return tmp_path / "hub" / "checkpoints"
