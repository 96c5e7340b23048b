"""The example for a notebook runs as it stands, and prints what the page says."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import matplotlib
import pytest

GUIDE = Path(__file__).parents[1] / "docs/guide"
DIGITS = 0.05  # what is trained differs between machines


def blocks(page):
    """Return the blocks of a page: their kind and what is in them."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def run_commands(block):
    """Run the commands of a block, as the terminal does."""
    programs = {p.name: p.value.split(":") for p in entry_points(group="console_scripts")}
    for line in block.splitlines():
        name, *words = shlex.split(line)
        module, function = programs[name]
        code = f"import sys; from {module} import {function} as main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stderr)


def assert_alike(printed, shown):
    """Compare texts word by word: decimals nearly, all else exactly."""
    assert len(printed.split()) == len(shown.split()), (printed, shown)
    for word, expected in zip(printed.split(), shown.split(), strict=True):
        if re.fullmatch(r"-?\d+\.\d+", expected):
            assert float(word) == pytest.approx(float(expected), abs=DIGITS), (printed, shown)
        else:
            assert word == expected, (printed, shown)


def run_page(name, capsys):
    """Run a page's blocks one after the other, and compare what they print; count these."""
    matplotlib.use("Agg")
    scope, printed, n_shown = {}, "", 0
    for kind, block in blocks(GUIDE / name):
        if kind == "python":
            capsys.readouterr()
            exec(compile(block, name, "exec"), scope)
            printed = capsys.readouterr().out
        elif kind == "text":
            assert_alike(printed, block)
            n_shown += 1
        else:
            run_commands(block)
    return n_shown


@pytest.mark.slow
def test_page_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys, reports):
    monkeypatch.chdir(tmp_path)
    assert run_page("notebook.md", capsys) >= 9
    made = {"one_neuron.png", "trial.pdf", "run/report.html", "data/day1.h5", "data/day2.h5"}
    made.add("run/model_runs_day1_valid_posterior_sample_and_average.mat")
    assert all((tmp_path / name).is_file() for name in made)


def test_page_of_scikit_learn_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_page("scikit-learn.md", capsys) == 3
    assert list(tmp_path.iterdir()) == []
