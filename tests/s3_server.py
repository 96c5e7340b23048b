"""An S3 server in a process of its own, on loopback, and an empty bucket there: fixtures."""

import socket
import subprocess
import sys
import time
import urllib.request

import fsspec
import pytest


class Server:
    """Moto's S3 server; the content of its bucket survives a stop."""

    def __init__(self, port):
        self.port, self.kept = port, {}

    def start(self):
        program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(
            program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        fs = filesystem()
        fs.mkdir("lab")
        for path, content in self.kept.items():
            fs.pipe_file(path, content)

    def stop(self):
        fs = filesystem()
        self.kept = {path: fs.cat_file(path) for path in fs.find("lab")}
        self.process.kill()
        self.process.wait()


def filesystem():
    return fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("s3fs", reason="needs the extra [s3]")
    pytest.importorskip("moto", reason="needs moto, of the extra [dev]")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        running = Server(port)
        running.start()
        # cached filesystems have the address of another module's server
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield running
        running.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def bucket(server):
    """The filesystem of a server with an empty bucket."""
    fs = filesystem()
    for path in fs.find("lab"):
        fs.rm_file(path)
    return fs
