"""Recordings behind addresses of the web: downloaded whole, from where the user says alone."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from recordings import REC, write_nwb

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.runs import remote

pytest.importorskip("pynwb", reason="needs the extra [nwb]")
OPTIONS = {"bin_width_s": 0.02, "align_to": "go_cue_time", "window_s": (-0.2, 0.4)}


class Server(BaseHTTPRequestHandler):
    """Serves one file, by several ways, and remembers what it was asked for."""

    content, asked = b"", []

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        redirections = {
            "/moved.nwb": "/day1.nwb",
            "/file.nwb": "file:///etc/hostname",
            "/ftp.nwb": "ftp://127.0.0.1/x.nwb",
            "/circle.nwb": "/circle.nwb",
        }
        if path in redirections:
            self.send_response(302)
            self.send_header("Location", redirections[path])
            self.end_headers()
            return
        if path == "/gone.nwb":
            self.send_error(404)
            return
        if path == "/busy.nwb" and self.asked.count(path) == 1:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        if path.startswith("/download"):
            name = "day1.nwb" if path == "/download/" else "../../day1.nwb"
            self.send_header("Content-Disposition", f'attachment; filename="{name}"')
        self.end_headers()
        half = len(self.content) // 2
        self.wfile.write(self.content[: half if path == "/short.nwb" else None])

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write_nwb(tmp_path_factory.mktemp("web") / "day1.nwb", REC)


@pytest.fixture
def web(recording, monkeypatch):
    monkeypatch.setattr(remote, "WAITS_S", (0.01,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Server, "content", recording.read_bytes())
    monkeypatch.setattr(Server, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("way", ["day1.nwb?token=a.b/c", "moved.nwb", "busy.nwb", "download/"])
def test_an_address_is_a_recording(web, way, recording, tmp_path):
    words = ["--out", str(tmp_path), "--bin-width-s", "0.02", "--align-to", "go_cue_time"]
    assert main([f"{web}/{way}", *words, "--window-s", "-0.2", "0.4"]) == 0
    (path,) = tmp_path.glob("*.h5")
    assert path.stem == way.partition(".")[0].strip("/")
    session = lfads.read_session(path)
    local = lfads.read_session(lfads.prepare(recording, tmp_path, name="local", **OPTIONS))
    np.testing.assert_array_equal(session.train.data, local.train.data)
    assert set(Server.asked) <= {f"/{way.partition('?')[0]}", "/day1.nwb"}


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("gone.nwb", "cannot be downloaded (404 Not Found)"),
        ("file.nwb", "cannot be downloaded (302"),
        ("ftp.nwb", "cannot be downloaded (302 Found)"),
        ("circle.nwb", "infinite loop"),
        ("short.nwb", "bytes arrived"),
        ("download/up", "which is not a valid file name"),
        ("day1.xyz", "no known format"),
    ],
)
def test_what_is_not_there_is_one_line(web, way, said, tmp_path, capsys):
    words = ["--out", str(tmp_path), "--bin-width-s", "0.02"]
    assert main([f"{web}/{way}", *words]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {web}")
    assert said in error
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_there(web, recording):
    with pytest.raises(LFADSError, match="nothing can be written there"):
        lfads.prepare(recording, f"{web}/folder", **OPTIONS)
    assert Server.asked == []
