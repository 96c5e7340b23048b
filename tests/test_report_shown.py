"""A short run of the demo as people see it: its report in a browser, its logs in TensorBoard."""

import base64
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from urllib.error import URLError
from urllib.parse import urlencode

import pytest
from hydra.core.global_hydra import GlobalHydra

from lfads_lightning import cli

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Train the demo for two epochs, with figures after each."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    words = ["experiment=lorenz", "trainer.device=cpu:0", f"output.lfads_save_dir={folder}"]
    words += ["trainer.max_epochs=2", "trainer.plot_every_n_epochs=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *words])
        GlobalHydra.instance().clear()
        cli.main()
        GlobalHydra.instance().clear()
    return folder


# --- the report in a browser ---


@pytest.fixture(scope="module")
def browser():
    """Start a browser without a screen; its log and its network are watched."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with chromedriver (Debian: apt-get install chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_is_seen_whole_without_a_network(demo, browser, width, scheme):
    mobile = width < 600
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # empties it
    browser.get((demo / "report.html").as_uri())
    figures = browser.execute_script(
        """return [...document.querySelectorAll("figure img")].map(i => {
             i.scrollIntoView();
             const r = i.getBoundingClientRect();
             return {id: i.id, complete: i.complete, natural: i.naturalWidth, left: r.left,
                     right: r.right, height: r.height, alt: i.alt};
           })"""
    )
    assert len(figures) == 7
    for figure in figures:
        assert figure["complete"], figure
        assert figure["natural"] > 600, figure
        assert figure["height"] > 90, figure
        assert figure["left"] >= 0, figure
        assert figure["right"] <= width, figure
        assert figure["alt"], figure
    # the page itself does not scroll sideways; wide tables do, within it
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(
        """return [...document.querySelectorAll("table")].every(
             t => t.parentElement.getBoundingClientRect().right <= innerWidth)"""
    )
    assert wide
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) > 382) == (scheme == "light")
    assert browser.get_log("browser") == []
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert asked  # the page itself
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == []


# --- TensorBoard ---


@pytest.fixture(scope="module")
def tensorboard(demo):
    """Start TensorBoard on the run, on this machine alone; give what asks it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--logdir", str(demo), "--host", "127.0.0.1", "--port", str(port)]
    words += ["--load_fast=false"]
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


def test_tensorboard_shows_the_scalars(tensorboard):
    tags = json.loads(tensorboard("plugin/scalars/tags"))
    assert {"train/total", "valid/recon", "ramp/kl", "lr"} < set(tags["tensorboard"])
    found = json.loads(tensorboard("plugin/scalars/scalars", tag="lr", run="tensorboard"))
    assert [step for _, step, _ in found] == [9, 18]


def test_tensorboard_shows_figures_of_both_splits(tensorboard):
    tags = json.loads(tensorboard("plugin/images/tags"))["tensorboard"]
    names = {"summary", "averages", "factors", "initial_conditions", "generator", "neurons"}
    assert set(tags) == {f"{split}/{name}" for split in ("train", "valid") for name in names}
    (entry,) = json.loads(
        tensorboard("plugin/images/images", tag="train/summary", run="tensorboard", sample=0)
    )
    assert entry["step"] == 18
    png = tensorboard(f"plugin/images/individualImage?{entry['query']}&_=")
    assert png.startswith(base64.b64decode("iVBORw=="))


def test_tensorboard_shows_settings_with_final_scores(tensorboard, demo):
    body = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN"]}
    body |= {"colParams": [{"metric": {"tag": "final/valid_rate_r2", "group": ""}}], "sliceSize": 9}
    answer = json.loads(tensorboard("plugin/hparams/session_groups", body))
    (group,) = answer["sessionGroups"]
    assert group["hparams"]["model.gen_dim"] == 64
    assert group["hparams"]["data.data_filename_stem"] == "lorenz"
    assert "output.lfads_save_dir" not in group["hparams"]
    values = {m["name"]["tag"]: m["value"] for m in group["metricValues"]}
    scores = json.loads((demo / "scores.json").read_text())
    assert values["final/valid_rate_r2"] == pytest.approx(scores["valid/rate_r2"], rel=1e-5)
