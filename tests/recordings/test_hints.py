"""What errors tell to type exists: options of lfads prepare and parameters, under these names."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import lfads_lightning
from lfads_lightning import params
from lfads_lightning.cli.prepare import _as_options, parser
from lfads_lightning.recordings.settings import Settings

PACKAGE = Path(lfads_lightning.__file__).parent
OPTIONS = {f.name for f in dataclasses.fields(Settings)}
# arguments of functions, which messages call by name, too
ARGUMENTS = {"lfads_save_dir", "n_bins", "valid_fraction", "same_neurons", "factors_dim"}


def texts(folder):
    """Yield the texts of a folder's modules that are no docstrings; a value shows as {}."""
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        inner = {id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
                 for v in node.values}  # fmt: skip
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body and isinstance(node.body[0], ast.Expr)
        }  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
                yield path.name, "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if id(node) not in inner | docs:
                    yield path.name, node.value


def test_options_that_readers_tell_of():
    found = set()
    for file, text in texts("recordings"):
        for name in re.findall(r"(?<![\w.])([a-z]+(?:_[a-z]+)+)=", text):
            assert name in OPTIONS | ARGUMENTS, f"{file}: {text}"
            found.add(name)
        for name in re.findall(r"lfads prepare[^;:]*? --([a-z-]+)", text):
            assert name.replace("-", "_") in OPTIONS | {"out"}, f"{file}: {text}"
    assert len(found) >= 8


def test_parameters_that_messages_tell_of():
    groups = "|".join(g for g in params.groups() if g)
    known, n = set(params.dotted_names().values()), 0
    for file, text in texts("."):
        for name in re.findall(rf"(?<![\w./])((?:{groups})\.[a-z][a-z_]+)(?==)", text):
            assert name in known, f"{file}: {text}"
            n += 1
    assert n > 50


@pytest.mark.parametrize(
    ("told", "typed"),
    [
        ("give axes=('trials', 'neurons', 'bins'), else", ["trials", "neurons", "bins"]),
        ("give window_s=(-0.2, 0.5)", [-0.2, 0.5]),
        ("leave_out=('it is 5',) drops it", ["it is 5"]),
        ("perhaps unit_column=index", "index"),
    ],
)
def test_an_option_is_told_as_a_shell_takes_it(told, typed):
    import shlex

    name = re.search(r"(\w+)=", told)[1]
    words = shlex.split(_as_options(told).partition("--")[2].partition(",")[0])
    n = len(typed) if isinstance(typed, list) else 1
    given = parser().given(["a.npz", "--out", "o", f"--{words[0]}", *words[1 : n + 1]])
    assert given[name] == typed
