"""Runs of an older version: read, with the numbers that it computed, gone on with, exported.

What lies in fixtures/ was made by the code at f1831e2; see the README there.
"""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import remembered

import lfads_lightning as lfads
from lfads_lightning.data.session_files import load_sessions
from lfads_lightning.evaluation.scores import evaluate
from lfads_lightning.evaluation.table import read_table
from lfads_lightning.runs.documents import read_rows
from lfads_lightning.search import sweeps

HERE = Path(__file__).parent / "fixtures"
RATES = np.load(HERE / "rates.npz")
STEMS = {"poisson": "toy", "gaussian": "real", "search": "toy_b"}


def sessions_of(name):
    dist = "gaussian" if name == "gaussian" else "poisson"
    return load_sessions(
        HERE / "data", STEMS[name], output_dist=dist, ext_input_dim=0, factors_dim=3
    )


@pytest.fixture
def older(tmp_path):
    """A copy of a run, as one that this user has made."""
    return lambda name: remembered(Path(shutil.copytree(HERE / name, tmp_path / name)))


def data_of(name):
    return [f"data.data_dir={HERE / 'data'}", f"data.data_filename_stem={STEMS[name]}"]


@pytest.mark.parametrize("name", STEMS)
def test_older_model_infers_the_same(name):
    folder, compared = lfads.Run(HERE / name).chosen().folder, 0
    for session in sessions_of(name):
        for index in ("checkpoint", "checkpoint_lve"):
            key = f"{name}/{index}/{session.name}"
            if not lfads.Run(folder).checkpoints.joinpath(f"{index}.json").exists():
                continue
            trained, data = lfads.load(folder, index), {session.name: session.valid.data}
            inferred = {"posterior_push_mean": trained.posterior_push_mean(data)}
            if f"{key}/posterior_sample_and_average" in RATES:
                inferred["posterior_sample_and_average"] = trained.posterior_sample_and_average(
                    data, num_samples=4
                )
            for kind, found in inferred.items():
                computed = found[session.name].output_dist_params
                np.testing.assert_allclose(computed, RATES[f"{key}/{kind}"], rtol=0, atol=1e-6)
                compared += 1
    assert compared >= 2


@pytest.mark.parametrize("name", ["poisson", "gaussian"])
def test_older_run_goes_on(name, older, call):
    run = lfads.Run(older(name))
    before = read_rows(run.metrics)
    done = call(f"resume={run.folder}", *data_of(name), "trainer.max_epochs=4")
    assert done.code == 0, done.err
    after = read_rows(run.metrics)
    assert [row["epoch"] for row in after] == ["0", "1", "2", "3"]
    assert after[:3] == before
    assert run.read_scores()["epochs"] == 4


@pytest.mark.parametrize("name", ["poisson", "gaussian"])
def test_older_run_is_evaluated_as_it_was(name):
    table = evaluate(lfads.load(HERE / name, "checkpoint_lve"), sessions_of(name))
    then = read_table(HERE / name)
    assert [(p.session, p.split) for p in table.parts] == [(p.session, p.split) for p in then.parts]
    for now, old in zip(table.parts, then.parts, strict=True):
        then_known = {k: now.rows["constant rate"][k] for k in old.rows["constant rate"]}
        assert then_known == pytest.approx(old.rows["constant rate"], abs=1e-6)
        assert now.rows["LFADS"].keys() >= old.rows["LFADS"].keys()


def test_results_of_an_older_run_leave_as_they_did(older, call, tmp_path):
    run = lfads.Run(older("poisson"))
    done = call("kind=posterior_push_mean", f"output.lfads_save_dir={run.folder}",
                *data_of("poisson"))  # fmt: skip
    assert done.code == 0, done.err
    with h5py.File(run.results("", "a", "valid", "posterior_push_mean")) as file:
        rates = file["output_dist_params"][()]
    expected = RATES["poisson/checkpoint/a/posterior_push_mean"]
    np.testing.assert_allclose(rates, expected, rtol=0, atol=1e-6)
    paths = lfads.export(run.folder, "npz", out=tmp_path)
    assert len(paths) == 4
    np.testing.assert_array_equal(
        np.load(tmp_path / "model_runs_a_valid_posterior_push_mean.npz")["output_dist_params"],
        rates,
    )


def test_older_search_and_sweep_are_read(older, call):
    folder = older("search")
    done = call("kind=posterior_push_mean", f"output.lfads_save_dir={folder}", *data_of("search"))
    assert done.code == 0, done.err
    assert "best" in done.out
    jobs = sweeps.ranked(HERE / "sweep")
    assert [(job.number, job.status) for job in jobs] == [("1", "finished"), ("0", "finished")]
    scores = json.loads((HERE / "sweep/1/scores.json").read_text())
    assert jobs[0].criterion == scores["criterion"]
