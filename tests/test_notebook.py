"""The example for a notebook runs as it stands, and prints what the page says."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import matplotlib
import pytest

PAGE = Path(__file__).parents[1] / "docs/notebook.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
DIGITS = 0.05  # what is trained differs between machines


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


def test_page_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys, reports):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    scope, printed, n_shown = {}, "", 0
    for kind, block in BLOCKS:
        if kind == "python":
            capsys.readouterr()
            exec(compile(block, PAGE.name, "exec"), scope)
            printed = capsys.readouterr().out
        elif kind == "text":
            assert_alike(printed, block)
            n_shown += 1
        else:
            run_commands(block)
    assert n_shown >= 8
    made = {"one_neuron.png", "run/report.html", "data/day1.h5", "data/day2.h5"}
    made.add("run/model_runs_day1_valid_posterior_sample_and_average.mat")
    assert all((tmp_path / name).is_file() for name in made)
