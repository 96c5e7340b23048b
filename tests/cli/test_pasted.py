"""Commands that are printed can be pasted: into a shell, whatever letters a folder has."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, slowly

import lfads_lightning as lfads
from lfads_lightning import params
from lfads_lightning.cli import check
from lfads_lightning.cli.settings import _composed
from lfads_lightning.commands import override, program, to_train
from lfads_lightning.runs.run import Run
from lfads_lightning.search import sweeps
from lfads_lightning.training.checkpoints import tell_to_continue

TRAIN = ROOT / "train.py"
NASTY = "it's $HOME, a=[b] {c} ${seed} (d) & \\'é\\\";#~*?!%"
SMALL = [f"{params.dotted_names()[name]}={value}" for name, value in TINY.items()]

windows = pytest.mark.skipif(sys.platform == "win32", reason="has no bash, and not all the letters")


@pytest.fixture(params=["lfads", *slowly("train.py")])
def started(request, monkeypatch):
    """Let the messages of this process be those of ``python train.py``, or of ``lfads``."""
    called = TRAIN if request.param == "train.py" else Path(sys.executable).with_name("lfads")
    monkeypatch.setattr(sys, "argv", [str(called)])


def paste(command, cwd):
    """Run a command in bash; ``python`` is the tests' own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HYDRA"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=environment | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, f"{command}\n{process.stdout}{process.stderr}"
    return process


def test_value_of_any_letters_is_read_as_it_was_written():
    values = [
        *"'\"\\$=,[]{}()~#:;&|*?!%@ é",
        "a b",
        " it's",
        "${seed}",
        "a\\${b}",
        "a\\",
        "\\'",
        '\\\\"',
    ]
    values += ["null", "True", "1e3", "12", "a/b", "2026-01-31/12-00-00", ""]
    composed = _composed([override(f"+x{i}", value) for i, value in enumerate(values)], None)
    assert [composed[f"x{i}"] for i in range(len(values))] == values


@pytest.mark.slow
@windows
def test_pasted_commands_train_and_go_on(started, counts, tmp_path, capsys):
    data, run = tmp_path / NASTY / "data", tmp_path / NASTY / "run"
    data.mkdir(parents=True)
    path = lfads.write_session(data / "it's, a=$1.h5", train_data=counts, valid_data=counts[:6])
    assert check.main([str(path)]) == 0
    (line,) = [ln for ln in capsys.readouterr().out.splitlines() if "to train: " in ln]
    words = [*SMALL, override("output.lfads_save_dir", run), "trainer.max_epochs=1"]
    paste(f"{line.split('to train: ')[1]} {shlex.join(words)}", tmp_path)
    tell_to_continue(run, "Interrupted", Run(run).read_config())
    command = capsys.readouterr().err.split("To continue: ")[1].strip()
    paste(f"{command} trainer.max_epochs=2", tmp_path)
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]


@pytest.mark.slow
@windows
def test_pasted_command_goes_on_with_a_sweep(call, counts, tmp_path, monkeypatch, capsys):
    lfads.write_session(tmp_path / "toy.h5", train_data=counts, valid_data=counts[:6])
    words = [f"data.data_dir={tmp_path}", "data.data_filename_stem=toy", *SMALL]
    words += ["trainer.max_epochs=1"]
    folder = tmp_path / NASTY.replace("${", "{")  # Hydra fills it in for every job
    assert call("-m", *words, "seed=0,1", override("hydra.sweep.dir", folder)).code == 0
    (folder / "1" / "scores.json").unlink()
    monkeypatch.setattr(sys, "argv", [str(TRAIN)])
    argv = sweeps.continued(sweeps.command_in(folder), folder)
    with sweeps.recorded(folder, argv, lambda folder: None):
        pass
    command = capsys.readouterr().out.split("To continue it: ")[1].strip()
    paste(command, tmp_path)
    assert (folder / "1" / "scores.json").is_file()


def test_who_called_fit_is_told_how_to_call_it_again(counts, tmp_path, capsys):
    settings = {"max_epochs": 1, **TINY}
    run = lfads.fit(counts, lfads_save_dir=tmp_path / NASTY, **settings)
    tell_to_continue(run.folder, "Interrupted", run.config)
    said = capsys.readouterr().err
    assert f"call fit in the same way, with lfads_save_dir={str(run.folder)!r}" in said


@pytest.mark.parametrize(
    ("argv0", "verb", "on_path", "named"),
    [
        ("train.py", "train", True, "python train.py"),
        ("lfads lightning/train.py", "train", True, "python 'lfads lightning/train.py'"),
        ("train.py", "check", True, "lfads check"),
        ("{bin}/lfads", "train", True, "lfads train"),
        ("{bin}/lfads", "check", True, "lfads check"),
        ("{bin}/lfads", "check", False, "'{bin}/lfads' check"),
        ("{bin}/lfads-train", "train", True, "lfads-train"),
        ("{bin}/lfads-train", "train", False, "'{bin}/lfads-train'"),
        ("{bin}/lfads-check", "check", True, "lfads-check"),
        ("{bin}/lfads-check", "train", True, "lfads train"),
        ("{bin}/lfads-check", "train", False, "'{bin}/lfads' train"),
        ("my_analysis.py", "train", True, "lfads train"),
        ("lfads.py", "report", True, "lfads report"),
        ("", "train", True, "lfads train"),
        ("-c", "train", True, "lfads train"),
    ],
)
def test_program_is_named_as_it_was_called(argv0, verb, on_path, named, tmp_path, monkeypatch):
    folder = tmp_path / "my programs"
    folder.mkdir()
    for name in ("lfads", "lfads-train", "lfads-check"):
        shutil.copy2("/bin/true" if Path("/bin/true").exists() else sys.executable, folder / name)
    monkeypatch.setenv("PATH", str(folder) if on_path else str(tmp_path))
    monkeypatch.setattr(sys, "argv", [argv0.format(bin=folder)])
    assert program(verb) == named.format(bin=folder)
    assert to_train("seed=1").startswith(program())
