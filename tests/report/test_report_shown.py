"""A short run of the demo as people see it: its report in a browser, its logs in TensorBoard."""

import base64
import json
import os
import re
import shutil
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, TINY
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard_server import hparams, serving

import lfads_lightning as lfads
from lfads_lightning.cli.train import main as train_main
from lfads_lightning.report import training_figures as figures
from lfads_lightning.training.module import LFADSModule

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Train the demo for two epochs, with figures after each."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    words = ["experiment=lorenz", "trainer.device=cpu:0", f"output.lfads_save_dir={folder}"]
    words += ["trainer.max_epochs=2", "trainer.plot_every_n_epochs=2", "data.batch_size=128"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *words])
        GlobalHydra.instance().clear()
        train_main()
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


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_is_seen_whole_without_a_network(demo, browser, width, scheme):
    mobile = width < 600
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get("about:blank")  # not the same page again, which may still be there
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # empties it
    browser.get((demo / "report.html").as_uri())
    for _ in range(300):  # a busy machine may still be reading it
        if browser.execute_script("return document.readyState") == "complete":
            break
        time.sleep(0.1)
    seen = browser.execute_script(
        """return [...document.querySelectorAll("figure img")].map(i => {
             i.scrollIntoView();
             const r = i.getBoundingClientRect(), frame = i.parentElement.getBoundingClientRect();
             return {id: i.id, complete: i.complete, natural: i.naturalWidth, left: frame.left,
                     right: frame.right, width: r.width, height: r.height, alt: i.alt};
           })"""
    )
    assert len(seen) == 8
    for figure in seen:
        assert figure["complete"], figure
        assert figure["natural"] > 600, figure
        # on a phone a figure is as large as can be read, and scrolled within its frame
        assert figure["width"] >= 0.69 * figure["natural"], figure
        assert figure["height"] > 200, figure
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
    """Start TensorBoard on the run; give what asks it."""
    with serving(demo) as ask:
        yield ask


@pytest.mark.slow
def test_tensorboard_shows_the_scalars(tensorboard):
    tags = json.loads(tensorboard("plugin/scalars/tags"))
    assert {"train/total", "valid/recon", "ramp/kl", "lr"} < set(tags["tensorboard"])
    found = json.loads(tensorboard("plugin/scalars/scalars", tag="lr", run="tensorboard"))
    assert [step for _, step, _ in found] == [9, 18]


@pytest.mark.slow
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


@pytest.mark.slow
def test_tensorboard_shows_settings_with_final_scores(tensorboard, demo):
    entries = hparams(tensorboard, 1, "final/valid_rate_r2")
    ((settings, score),) = entries.values()
    assert settings["model.gen_dim"] == 64
    assert settings["data.data_filename_stem"] == "lorenz"
    assert "output.lfads_save_dir" not in settings
    scores = json.loads((demo / "scores.json").read_text())
    assert score == pytest.approx(scores["valid/rate_r2"], rel=1e-5)


# --- what drawing costs, and what it leaves alone ---


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.mark.parametrize("seconds", [0.1, 0.4, 3.0, 60.0])
def test_figures_wait_until_they_cost_less_than_a_fiftieth(monkeypatch, seconds):
    """Figures that take so long, in epochs of a second."""
    clock, spent = Clock(), []

    def draw(self, module):
        spent.append(seconds)
        clock.now += seconds
        return {}

    monkeypatch.setattr(figures, "time", clock)
    monkeypatch.setattr(figures.Figures, "_draw", draw)
    callback = figures.Figures([SimpleNamespace(splits=("train", "valid"))], None)
    logger = TensorBoardLogger.__new__(TensorBoardLogger)
    monkeypatch.setattr(TensorBoardLogger, "experiment", None)
    monkeypatch.setattr(TensorBoardLogger, "log_dir", "tensorboard")
    trainer = SimpleNamespace(is_global_zero=True, loggers=[logger], current_epoch=0)
    module = LFADSModule.__new__(LFADSModule)
    callback.on_train_start(trainer, module)
    shares = []
    for _ in range(10_000):
        clock.now += 1
        callback.on_train_epoch_end(trainer, module)
        shares.append(sum(spent) / clock.now)
    assert shares[-1] < 0.02
    if seconds <= figures.FIRST_GUESS_S:
        assert max(shares) < 0.02  # at any time
    # and they are drawn as often as that allows
    assert len(spent) > 0.012 * 10_000 / seconds - 1


@pytest.mark.slow
def test_figures_take_turns_where_time_says_when(counts, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "SHARE_OF_TIME", 1e9)  # after every epoch
    sizes = TINY | {"co_dim": 1, "max_epochs": 17}
    lfads.fit(counts, valid_data=counts, lfads_save_dir=str(tmp_path), **sizes)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    names = ["summary", "averages", "factors", "initial_conditions", "inferred_inputs"]
    names += ["generator", "neurons"]  # without conditions or an event, no inputs around one
    seen = {tag: [i.step for i in events.Images(tag)] for tag in events.Tags()["images"]}
    in_turn = [f"{split}/{name}" for name in names for split in ("valid", "train")]
    assert sorted(seen, key=lambda tag: seen[tag][0]) == in_turn
    assert len(seen["valid/summary"]) == 2
    assert len(seen["valid/averages"]) == 2
    assert len(seen["train/averages"]) == 1


@pytest.mark.slow
def test_figures_leave_the_weights_alone_to_the_last_bit(counts, tmp_path):
    sizes = {
        "gen_dim": 6,
        "factors_dim": 3,
        "ic_dim": 4,
        "co_dim": 1,
        "device": "cpu:0",
        "recipe": "original",
    }
    sizes |= {"con_dim": 5, "ci_enc_dim": 5, "ic_enc_dim": 5, "batch_size": 4, "max_epochs": 3}
    sizes |= {"temporal_spike_jitter_width": 1, "coordinated_dropout_rate": 0.2}
    weights = []
    for every in (0, 2):
        folder = tmp_path / str(every)
        trained = lfads.fit(counts, lfads_save_dir=str(folder), plot_every_n_epochs=every, **sizes)
        weights.append(trained.model.state_dict())
        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        assert (events.Tags()["images"] != []) == (every == 2)
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.slow
def test_drawing_takes_less_than_a_fiftieth_of_the_demo(tmp_path, monkeypatch):
    """By the clock, at the default interval; and it is not for nothing."""
    seen = []

    def keep(self, trainer, module):
        seen.append((self.seconds, time.monotonic() - self.started))

    monkeypatch.setattr(figures.Figures, "on_train_end", keep)
    words = ["experiment=lorenz", "trainer.device=cpu:0", f"output.lfads_save_dir={tmp_path}/run"]
    words += ["data.batch_size=128", "trainer.max_steps=5400"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    GlobalHydra.instance().clear()
    train_main()
    ((drawing, training),) = seen
    print(f"figures took {drawing:.2f} s of {training:.1f} s, {100 * drawing / training:.2f} %")
    assert 0 < drawing < 0.02 * training


@pytest.mark.slow
@pytest.mark.parametrize("what", ["copying", "underfit", "good"])
def test_canonical_runs_are_called_what_they_are(tmp_path, monkeypatch, reports, what):
    data = Path(os.environ.get("LFADS_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "lorenz_canonical.h5").is_file():
        pytest.skip("lorenz_canonical.h5 is not here; LFADS_DATA names its folder")
    given = {
        "copying": ["data.coordinated_dropout_rate=0", "model.co_dim=6", "trainer.max_epochs=300"],
        "underfit": ["loss.kl_ic_weight=1000", "trainer.max_epochs=150"],
        "good": ["trainer.max_epochs=250"],
    }
    words = ["experiment=lorenz_canonical", f"data.data_dir={data}", "trainer.device=cpu:0"]
    words += [*given[what], f"output.lfads_save_dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    GlobalHydra.instance().clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        train_main()
    found = {
        f["key"] for f in json.loads((tmp_path / "run" / "report.json").read_text())["findings"]
    }
    assert ("copying" in found) == (what == "copying")
    assert ("underfit" in found) == (what == "underfit")
    text = (tmp_path / "run" / "report.html").read_text()
    assert ('data-finding="copying"' in text) == (what == "copying")
