"""Sweeps from the outside: the ranked table, going on, random draws, launchers."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, slowly

import lfads_lightning as lfads
from lfads_lightning.runs.run import Run

TRAIN = ROOT / "train.py"
SMALL = [
    *("model.ic_dim=4", "model.factors_dim=3", "model.ic_enc_dim=6", "model.gen_dim=6"),
    *("model.ci_enc_dim=5", "model.con_dim=6", "model.co_dim=0", "data.batch_size=6"),
    *(
        "loss.kl_increase_steps=0",
        "loss.l2_increase_steps=0",
        "trainer.device=cpu:0",
        "recipe=original",
    ),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The words that name a folder with one small session."""
    folder = tmp_path_factory.mktemp("data")
    counts = np.random.default_rng(0).poisson(1.0, (12, 8, 5))
    lfads.write_session(folder / "toy.h5", train_data=counts, valid_data=counts[:6])
    return [f"data.data_dir={folder}", "data.data_filename_stem=toy"]


@pytest.fixture
def sweep(call, data, tmp_path, monkeypatch):
    """Call a sweep of tiny runs; return what it printed and its folder."""

    def run(*words, folder="sweep", epochs=2):
        folder = tmp_path / folder
        given = [*data, *SMALL, f"trainer.max_epochs={epochs}", f"hydra.sweep.dir={folder}"]
        options = [word for word in words if word == "-m"]
        return call(*options, *given, *(w for w in words if w != "-m")), folder

    return run


def results(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_jobs_are_ranked_by_criterion_on_screen_and_in_a_table(sweep):
    result, folder = sweep("-m", "seed=0,1,2")
    assert result.code == 0
    rows = results(folder)
    costs = [float(row["criterion"]) for row in rows]
    assert costs == sorted(costs)
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert {row["status"] for row in rows} == {"finished"}
    for row in rows:
        own = Path(row["folder"])
        assert own == folder / row["job"]
        assert json.loads((own / "scores.json").read_text())["criterion"] == float(row["criterion"])
        assert Run(own).read_config().seed == int(row["seed"])
    table = result.out[result.out.index("Sweep: ") :].splitlines()
    assert table[1].split() == ["rank", "job", "criterion", "seed"]  # what differs
    assert [line.split()[3] for line in table[2:5]] == [row["seed"] for row in rows]


def test_one_job_that_fails_does_not_end_the_others(sweep):
    result, folder = sweep("-m", "model.ic_prior_var_scale=0.1,5", "seed=0")
    assert result.code == 1
    assert "error: model.ic_prior_var_min=0.1, ic_prior_var_scale=5.0" in result.err
    assert "Traceback" not in result.err
    assert [row["status"] for row in results(folder)] == ["finished", "failed"]
    assert "must not decrease" in (folder / "1" / "error.txt").read_text()


def test_finished_sweep_is_not_repeated(sweep, call):
    _, folder = sweep("-m", "seed=0,1")
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/checkpoints/*.ckpt")}
    table = results(folder)
    again = call(f"resume={folder}")
    assert again.code == 0
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/checkpoints/*.ckpt")} == before
    assert results(folder) == table


@pytest.mark.slow
def test_sweep_that_was_cut_off_goes_on(sweep, call, tmp_path):
    _, whole = sweep("-m", "seed=0,1,2", folder="whole", epochs=15)
    _, cut = sweep("-m", "seed=0,1,2", epochs=15)
    for path in (cut / "2").iterdir():  # as if the third job had not begun
        subprocess.run(["rm", "-r", str(path)], check=True)
    (cut / "1" / "scores.json").unlink()  # and the second had trained for ten epochs
    checkpoints = cut / "1" / "checkpoints"
    kept = json.loads((checkpoints / "checkpoint.json").read_text())
    (checkpoints / "checkpoint.json").write_text(json.dumps(kept[:-1]))
    call(f"resume={cut}")
    assert [r["criterion"] for r in results(cut)] == [r["criterion"] for r in results(whole)]
    with (cut / "1" / "metrics.csv").open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == list(range(15))


def process(tmp_path, *words):
    """Start the program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_sweep_goes_on(data, tmp_path):
    folder = tmp_path / "sweep"
    words = ["-m", "seed=0,1,2", *data, *SMALL, "trainer.max_epochs=40"]
    killed = process(tmp_path, *words, f"hydra.sweep.dir={folder}")
    for _ in range(1200):
        if (folder / "0" / "scores.json").is_file() or killed.poll() is not None:
            break
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    first = (folder / "0" / "scores.json").stat().st_mtime_ns
    again = process(tmp_path, f"resume={folder}")
    _, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert [row["status"] for row in results(folder)] == ["finished"] * 3
    assert (folder / "0" / "scores.json").stat().st_mtime_ns == first


def test_resume_of_a_run_is_its_folder(sweep, call, data, tmp_path):
    run = tmp_path / "run"
    call(*data, *SMALL, "trainer.max_epochs=2", f"output.lfads_save_dir={run}")
    result = call(f"resume={run}", "trainer.max_epochs=3")
    assert result.code == 0
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + 3


def test_folder_of_another_sweep_is_an_error(sweep):
    sweep("-m", "seed=0,1")
    result, folder = sweep("-m", "seed=0,1", epochs=3)
    assert result.code == 1
    assert "holds a job with" in result.err
    assert "hydra.sweep.dir=FOLDER" in result.err


@pytest.mark.slow
def test_random_draws_are_those_of_the_space(sweep, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text(
        "optim.learning_rate_init: {min: 0.001, max: 0.1}\n"
        "model.co_dim: {values: [0, 1]}\n"
        "model.gen_dim: {min: 4, max: 9}\n"
    )
    words = ["sweep=random", f"search.space={space}", "search.draw=range(4)"]
    result, folder = sweep(*words)
    assert result.code == 0, result.err
    configs = [Run(folder / str(n)).read_config() for n in range(4)]
    rates = [c.optim.learning_rate_init for c in configs]
    assert len(set(rates)) == 4
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    # what the command line names is not drawn
    assert {c.model.co_dim for c in configs} == {0}
    assert {c.model.gen_dim for c in configs} == {6}
    assert len({row["optim.learning_rate_init"] for row in results(folder)}) == 4
    _, again = sweep(*words, folder="again")
    assert [Run(again / str(n)).read_config().optim.learning_rate_init for n in range(4)] == rates


@pytest.mark.parametrize(
    "plugin", [pytest.param(n, marks=pytest.mark.slow) for n in ("joblib", "submitit_local")]
)
def test_launchers_give_what_jobs_in_turn_give(sweep, plugin):
    module = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher"}
    pytest.importorskip(f"hydra_plugins.{module[plugin]}", reason="needs an extra")
    _, one = sweep("-m", "seed=0,1", folder="one")
    result, several = sweep("-m", "seed=0,1", f"launcher={plugin}", folder="several")
    assert result.code == 0, result.err
    pairs = [[(r["job"], r["criterion"]) for r in results(folder)] for folder in (one, several)]
    assert pairs[0] == pairs[1]


@pytest.mark.slow
def test_optuna_goes_on_by_replaying_what_is_finished(data, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs an extra")
    folder, tables = tmp_path / "sweep", []
    words = ["sweep=optuna", *data, *SMALL, "trainer.max_epochs=2", f"hydra.sweep.dir={folder}"]
    for n in (2, 3):  # in processes: importing optuna warns
        run = process(tmp_path, *words, f"hydra.sweeper.n_trials={n}")
        _, err = run.communicate(timeout=200)
        assert run.returncode == 0, err
        tables.append({row["job"]: row for row in results(folder)})
    first, rows = tables
    assert set(rows) == {"0", "1", "2"}
    names = ("criterion", "optim.learning_rate_init", "model.keep_prob")
    for job, row in first.items():
        assert [rows[job][n] for n in names] == [row[n] for n in names]
    found = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert found["best_value"] == pytest.approx(min(float(r["criterion"]) for r in rows.values()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume=nowhere"], "resume=nowhere: holds neither a run (config.yaml) nor a sweep"),
        (
            ["sweep=optuna", "optim.learning_rate_init=interval(0.1,0.01)"],
            "optim.learning_rate_init: 0.1 is not below 0.01; swap them",
        ),
        (
            ["sweep=optuna", "loss.kl_ic_weight=tag(log,interval(0,1))"],
            "loss.kl_ic_weight: a logarithmic interval cannot start at 0",
        ),
        (["sweep=optuna", "model.keep_prob=interval(0.5,2)"], "model.keep_prob is 2"),
        (["sweep=random", "search.space=nope"], "search.space=nope: no such preset"),
        (["sweep=nope"], "sweep=nope: no such preset"),
    ],
)
def test_a_mistake_is_one_error_before_anything_runs(sweep, words, message):
    if "sweep=optuna" in words:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs an extra")
    result, folder = sweep(*words)
    assert result.code == 2
    assert result.err.count("error:") == 1
    assert message in result.err
    assert "Traceback" not in result.err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "what", "package"),
    [
        ("-m launcher=joblib", "launcher=joblib", "lfads-lightning[joblib]"),
        ("launcher=submitit", "launcher=submitit", "lfads-lightning[slurm]"),
        ("-m hydra/launcher=ray", "hydra/launcher=ray", "lfads-lightning[ray]"),
        ("launcher=joblib --cfg job", "launcher=joblib", "lfads-lightning[joblib]"),
        ("sweep=optuna", "sweep=optuna", "lfads-lightning[optuna]"),
        ("-m hydra/sweeper=optuna", "hydra/sweeper=optuna", "lfads-lightning[optuna]"),
        ("hydra/job_logging=colorlog", "hydra/job_logging=colorlog", "hydra-colorlog"),
    ],
)
def test_a_missing_plugin_is_one_line_that_names_its_package(words, what, package, tmp_path):
    # as where none is installed: not even their common package is there
    code = "import sys; sys.modules['hydra_plugins'] = None; "
    code += "from lfads_lightning.cli.train import main; "
    process = subprocess.run(
        [sys.executable, "-c", code + "main()", "experiment=lorenz", *words.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TRAIN.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1, process.stderr
    assert process.stderr.startswith(f"error: command line: {what} needs ")
    assert process.stderr.endswith(f'pip install "{package}"\n')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["launcher=submitit", "hydra/launcher=submitit_slurm"])
def test_slurm_away_from_a_cluster_is_one_line_with_what_to_take(
    sweep, monkeypatch, tmp_path, word
):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs an extra")
    monkeypatch.setenv("PATH", str(tmp_path))
    result, folder = sweep("-m", "seed=0,1", word)
    assert result.code == 2
    assert result.err.count("error:") == 1
    assert "sbatch is not found here" in result.err
    assert "launcher=joblib" in result.err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("hydra/launcher=nonsense", "Hydra has no launcher of this name; there are basic"),
        ("hydra.launcher.n_cores=2", "is a setting of another launcher; name that too"),
        ("hydra/nonsense=x", "Could not override 'hydra/nonsense'"),
    ],
)
def test_words_for_hydra_that_it_does_not_know_are_one_line(call, word, part):
    result = call("experiment=lorenz", word)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert part in result.err


@pytest.mark.parametrize(
    "content",
    ['{"criterion": "abc"}', *slowly("[1]", "3", "[" * 100_000)],
)
def test_job_with_damaged_scores_is_run_to_its_end_again(sweep, call, content):
    _, folder = sweep("-m", "seed=0,1")
    before = results(folder)
    (folder / "0" / "scores.json").write_text(content)
    result = call(f"resume={folder}")
    assert result.code == 0, result.err
    assert results(folder) == before


@pytest.mark.parametrize("content", ["{", *slowly("[1]", "text", "3", "", "\x00")])
def test_job_with_damaged_settings_fails_and_the_others_count(sweep, call, content):
    _, folder = sweep("-m", "seed=0,1")
    (folder / "0" / "job.yaml").write_text(content)
    result = call(f"resume={folder}")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert {row["job"]: row["status"] for row in results(folder)} == {
        "1": "finished",
        "0": "failed",
    }
