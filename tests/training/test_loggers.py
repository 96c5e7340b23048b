"""Loggers: wandb offline and MLflow in a file, of one run that goes on; none; mistakes."""

import sys

import numpy as np
import pytest
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lfads_lightning as lfads
from lfads_lightning import params
from lfads_lightning.config import Config
from lfads_lightning.runs import provenance

QUICK = {k: v for k, v in TINY.items() if k != "report"} | {
    "co_dim": 0,
    "max_epochs": 2,
    "report": False,
    "plot_every_n_epochs": 0,
}
DRAWN = QUICK | {"report": True, "plot_every_n_epochs": 2, "num_score_samples": 2}


@pytest.mark.parametrize("value", ["wandb", ["tensorboard", "mlflow"], "csv"])
def test_one_or_several_are_taken(value):
    assert params.check_value("logger", value, "here") == value
    config = params.from_flat({"logger": value})
    assert params.from_dict(params.to_dict(config)) == config
    assert config.trainer.logger_names == ([value] if isinstance(value, str) else value)


@pytest.mark.parametrize("value", ["comet", [], ["csv", "csv"], 3, None])
def test_others_are_refused(value):
    with pytest.raises(lfads.LFADSError, match="expected any of tensorboard, csv, wandb, mlflow"):
        params.check_value("logger", value, "here")


def test_csv_alone_leaves_the_tables(counts, tmp_path):
    trained = lfads.fit(counts, logger="csv", lfads_save_dir=str(tmp_path / "run"), **QUICK)
    assert len(trained.history) == 2
    assert {p.name for p in (tmp_path / "run").glob("*.csv")} == {"metrics.csv", "fitlog.csv"}
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.slow  # importing them takes seconds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_has_one_run_of_one_that_goes_on(counts, tmp_path, monkeypatch, reports):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folder = str(tmp_path / "run")
    monkeypatch.chdir(tmp_path)  # figures are files below the working folder
    lfads.fit(counts, logger="mlflow", lfads_save_dir=folder, **DRAWN)
    trained = lfads.fit(counts, logger="mlflow", lfads_save_dir=folder, **DRAWN | {"max_epochs": 3})
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("lfads")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["model.gen_dim"] == "6"
    history = client.get_metric_history(run.info.run_id, "train/total")
    assert [m.value for m in history] == pytest.approx(list(trained.history["train/total"]))
    total = trained.scores["valid/total"]
    assert run.data.metrics["final/valid/total"] == pytest.approx(total)
    assert run.info.status == "FINISHED"
    pictures = {p.path for p in client.list_artifacts(run.info.run_id, "images")}
    steps = {int(p.split("+")[2]) for p in pictures if p.startswith("images/valid~summary+")}
    assert len(steps) >= 2  # while it trained, and in the end
    assert any(p.startswith("images/train~") for p in pictures)


@pytest.mark.slow  # importing them takes seconds
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_wandb_keeps_an_offline_run_in_the_runs_folder(counts, tmp_path, monkeypatch, reports):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    told = []
    import wandb

    log = wandb.Run.log
    monkeypatch.setattr(
        wandb.Run, "log", lambda self, data, *a, **k: told.append(data) or log(self, data, *a, **k)
    )
    folder = tmp_path / "run"
    trained = lfads.fit(
        counts, logger=["wandb", "tensorboard"], lfads_save_dir=str(folder), **DRAWN
    )
    rows = [row for row in told if "train/total" in row]
    assert [row["train/total"] for row in rows] == pytest.approx(
        list(trained.history["train/total"])
    )
    number = provenance.identity(folder)
    files = list((folder / "wandb").glob(f"offline-run-*-{number}/run-{number}.wandb"))
    assert files
    kept = b"".join(path.read_bytes() for path in files)
    assert b"model.gen_dim" in kept
    assert b"final/valid/total" in kept
    assert wandb.run is None  # the next run of this program has its own
    drawn = [row for row in told if "valid/summary" in row]
    assert [isinstance(row["valid/summary"], wandb.Image) for row in drawn] == [True, True]
    assert drawn[-1]["trainer/global_step"] == trained.step
    assert list((folder / "wandb").glob("offline-run-*/files/media/images/valid/summary_*.png"))
    assert (folder / "tensorboard").is_dir()


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_what_is_not_installed_is_named_with_its_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(params, "find_spec", lambda name: None)
    config = Config()
    config.trainer.logger = ["csv", package]
    with pytest.raises(lfads.LFADSError, match=rf'pip install "lfads-lightning\[{package}\]"'):
        params.check(config)


@pytest.mark.slow
def test_service_that_fails_is_one_line(counts, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    with pytest.raises(lfads.LFADSError, match="trainer.logger=mlflow: .*MLFLOW_TRACKING_URI"):
        lfads.fit(counts, logger="mlflow", lfads_save_dir=str(tmp_path / "run"), **QUICK)


def test_folder_that_was_sent_sends_nothing(tmp_path):
    """What a config says of a server is used where it was typed, or used with this folder."""
    config = params.from_flat({"logger": ["tensorboard", "wandb"]})
    places = provenance.places_in(config)
    assert places == {"logger": "['tensorboard', 'wandb']"}
    assert not provenance.is_known(tmp_path, "logger", places["logger"])
    provenance.remember(tmp_path, places=places)
    assert provenance.is_known(tmp_path, "logger", places["logger"])
    assert provenance.places_in(Config()) == {}


def test_tensorboard_has_training_and_validation_in_one_chart(counts, tmp_path):
    lfads.fit(counts, lfads_save_dir=str(tmp_path), **QUICK)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    data = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for term in ("total", "recon"):
        assert f"train/{term}".encode() in data
        assert f"valid/{term}".encode() in data
    assert np.isfinite([e.value for e in events.Scalars("train/total")]).all()
