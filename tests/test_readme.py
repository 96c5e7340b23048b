"""What the README says is what the program does."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

import lfads_lightning as lfads
from lfads_lightning import params
from lfads_lightning.cli import VERBS
from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.overrides import prepare
from lfads_lightning.cli.settings import settings_text
from lfads_lightning.data import keywords
from lfads_lightning.recordings import keys
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.runs import remote
from lfads_lightning.runs.run import Run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = "\n".join(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md")))
COMMANDS = re.findall(r"^python train\.py[^\n#]*", README, re.M)
COMMANDS += [m.replace("\n", " ") for m in re.findall(r"`(python train\.py [^`]*)`", README)]
TOOLS = re.findall(rf"^lfads (?:{'|'.join(set(VERBS) - {'train'})}) [^\n#]*", README + DOCS, re.M)
COMMANDS += [
    m.replace("lfads", "python", 1) for m in re.findall(r"^lfads train [^\n#]*", DOCS, re.M)
]
RUNS = [c for c in dict.fromkeys(COMMANDS) if "--help" not in c]


def test_parameter_table_is_that_of_the_program():
    begin, end = "<!-- parameters: make table -->\n", "\n<!-- end of parameters -->"
    table = README[README.index(begin) + len(begin) : README.index(end)]
    assert table.strip() == params.parameter_table()


@pytest.mark.parametrize("command", RUNS)
def test_command_is_understood(command, tmp_path, monkeypatch, new_config):
    monkeypatch.chdir(tmp_path)
    for folder in ("RUN", "FOLDER", "SENT", "run"):
        (tmp_path / folder).mkdir()
        Run(tmp_path / folder).write_config(new_config())
    (tmp_path / "my_params.yaml").write_text("co_dim: 3")
    (tmp_path / "data").mkdir()  # recipe=auto looks at the data
    with h5py.File(tmp_path / "data" / "monkey.h5", "w") as file:
        file["train_data"] = np.ones((9, 8, 5), np.uint8)
    bucket = fsspec.filesystem("memory")  # in place of S3
    monkeypatch.setattr(remote, "NO_STORES", set())
    bucket.pipe_file("/lab/mine.yaml", b"co_dim: 3")
    bucket.pipe_file("/lab/runs/a/config.yaml", (tmp_path / "RUN/config.yaml").read_bytes())
    GlobalHydra.instance().clear()
    if "launcher=joblib" in command:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs an extra")
    command = command.replace("s3://", "memory://")
    argv = [a.replace("range(50)", "7") for a in shlex.split(command)[2:] if a != "-m"]
    is_sweep = "-m" in shlex.split(command)
    if is_sweep:  # one job of it
        assert any("," in a for a in argv)
        argv = [a.split(",")[0] for a in argv]
    settings_text(prepare(argv))


@pytest.mark.parametrize(
    ("begin", "end", "module"),
    [
        ("<!-- session keys: make table -->\n", "\n<!-- end of session keys -->", keywords),
        ("<!-- prepared keys -->\n", "\n<!-- end of prepared keys -->", keys),
    ],
)
def test_tables_of_keys_are_those_of_the_program(begin, end, module):
    table = README[README.index(begin) + len(begin) : README.index(end)]
    assert table.strip() == module.table()


@pytest.mark.parametrize("line", [*dict.fromkeys(TOOLS)])
def test_command_around_training_is_understood(line):
    """Its options are as README and docs type them."""
    _, verb, *words = shlex.split(line)
    module = import_module(f"lfads_lightning.cli.{verb}")
    given = Parser(verb, "", module.Options, *([Settings] * (verb == "prepare"))).given(words)
    assert given
    if verb == "prepare":
        del given["recordings"], given["out"]
        assert Settings(**given) != Settings() or "aplysia" in line


def test_there_are_commands():
    assert len(RUNS) >= 10
    assert {line.split()[1] for line in TOOLS} | {"info"} == set(VERBS) - {"train"}


def test_named_files_exist():
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\b(?:benchmarks|tests)/\w+(?:\.py)?", README):
        assert (ROOT / path).exists(), path


def test_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(import lfads_lightning.*?)```", README, re.S)
    code = code.replace("max_epochs=200", "max_epochs=1, device='cpu:0'")
    code = code.replace("num_samples=50", "num_samples=2")
    saved = {"trained.model_params()": "\ntrained.save('outputs/DATE/TIME')\n"}
    for line, more in saved.items():
        assert line in code
        code = code.replace(line, line + more)
    scope = {"spikes": np.random.default_rng(0).poisson(1.0, (10, 8, 25))}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["post"].rates.shape == (10, 8, 25)
    assert isinstance(scope["trained"], lfads.Trained)
