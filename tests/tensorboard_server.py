"""A local TensorBoard server, queried the way a browser does."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from urllib.error import URLError
from urllib.parse import urlencode


@contextmanager
def serving(folder):
    """Start TensorBoard on a folder; yield a function that queries its data, once it has runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    words += ["--load_fast=false", "--reload_interval=1"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(path, body=None, **query):
        url = f"http://127.0.0.1:{port}/data/{path}?{urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    try:
        for _ in range(240):
            with suppress(URLError, ConnectionError, TimeoutError):
                if json.loads(ask("runs")):
                    break
            assert server.poll() is None
            time.sleep(0.5)
        yield ask
    finally:
        server.terminate()
        server.wait(20)


def hparams(ask, n_runs, metric):
    """Return the settings and a score in the HParams tab, by run, once there are ``n_runs``.

    The score is None for a run without it.
    """
    body = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN"]}
    body |= {"colParams": [{"hparam": metric}], "sliceSize": 99}
    for _ in range(60):
        groups = json.loads(ask("plugin/hparams/session_groups", body))["sessionGroups"]
        sessions = [(s, group) for group in groups for s in group["sessions"]]
        if len(sessions) >= n_runs:
            break
        time.sleep(0.5)
    entries = {}
    for session, group in sessions:
        entries[session["name"]] = group["hparams"], group["hparams"].get(metric)
    return entries
