"""A small network, a server on this machine that serves files well and badly, and an empty cache for every test."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from fbnetv3 import Arch, Block, build_model
from fbnetv3.hub import load
from fbnetv3.networks.weight_file import WeightFile
from fbnetv3.transforms import Transforms

STAGES = ((Block("ir", 8, k=3, s=2),), (Block("ir", 16, k=3, e=2, s=2, se=True),))
TINY = Arch("tiny", 28, Block("conv", 8, k=3, s=2), STAGES, Block("pool", 16, e=2))


def tiny_weights(seed=0, derived_from=(), channels=1):
    """Return weights of the small network for three classes."""
    torch.manual_seed(seed)
    transforms = Transforms(30, 28, (0.4,) * channels, (0.2,) * channels)
    return WeightFile(TINY, ("a", "b", "c"), transforms, build_model(TINY, 3, channels).state_dict(), derived_from)


class Server:
    """Serves `files[path]`: bytes, or a callable that answers the request itself. `hits` lists the requested paths."""

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
    """Answer with the length of the content, half of it, and a closed connection."""
    return lambda request: send(request, content[: len(content) // 2], len(content))


def slow(content, pause, parts=4):
    """Answer with the content in parts, and a pause before each."""

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
    """Give the test an empty cache, and let the note on the licence appear again."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    load._note_licence.cache_clear()
    return tmp_path / "hub" / "checkpoints"
