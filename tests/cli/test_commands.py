"""What all programs have in common: how they end."""

import shlex
import subprocess
import sys
import warnings
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import lfads_lightning as lfads
from lfads_lightning.cli import VERBS, evaluate, export, merge
from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.config import LFADSError


def test_mistake_is_one_line_and_status_2(capsys):
    @command
    def main():
        warnings.warn("that looks odd", stacklevel=1)
        raise LFADSError("day1.h5: no such file; give one")

    with pytest.raises(SystemExit, match="2"), warnings.catch_warnings():
        warnings.simplefilter("always")
        main()
    said = capsys.readouterr().err.splitlines()
    assert said == ["warning: that looks odd", "error: day1.h5: no such file; give one"]


def test_result_is_handed_on_and_warnings_are_as_before():
    before = warnings.showwarning
    assert command(lambda x: x + 1)(2) == 3
    assert warnings.showwarning is before


def test_ctrl_c_ends_without_a_traceback():
    @command
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="130"):
        main()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")
def test_sigterm_tidies_up_and_asks_to_try_again(tmp_path):
    code = """
import sys, time
from lfads_lightning.cli.programs import command
from lfads_lightning.runs.files import whole_file
@command
def main():
    with whole_file(sys.argv[1]) as path:
        path.write_text("half")
        print("writing", flush=True)
        time.sleep(60)
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "table.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    process.terminate()
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out, err) == (75, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_reader_that_has_gone_is_no_traceback():
    code = """
from lfads_lightning.cli.programs import command
@command
def main():
    for i in range(100_000):
        print("a line of a long table")
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"a line of a long table\n"
    process.stdout.close()  # as head does
    assert process.stderr.read() == b""
    assert process.wait(timeout=200) == 1
    process.stderr.close()


def test_names_from_files_cannot_break_the_line(capsys):
    @command
    def main():
        raise LFADSError("a.npz: x\r\n\x1b[2Jy is no array")

    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "error: a.npz: x   [2Jy is no array\n"


def test_every_program_says_our_version(monkeypatch, capsys):
    for entry in entry_points(group="console_scripts"):
        if entry.dist is not None and entry.dist.name == "lfads-lightning":
            monkeypatch.setattr(sys, "argv", [entry.name, "--version"])
            with suppress(SystemExit):
                entry.load()()
            assert capsys.readouterr() == (f"lfads-lightning {lfads.__version__}\n", ""), entry.name


def typed(monkeypatch, capsys, line):
    """Run a command line in this process; return its status and what it printed."""
    verb, *words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", [verb, *words])
    names = {e.name: e for e in entry_points(group="console_scripts")}
    try:
        status = names[verb].load()()
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "info"])  # has no older name
def test_verb_and_its_older_name_are_one_program(verb, monkeypatch, capsys):
    status, out, err = typed(monkeypatch, capsys, f"lfads {verb} --help")
    assert (status or 0, err) == (0, "")
    assert f"lfads {verb} " in out
    old = typed(monkeypatch, capsys, f"lfads-{verb} --help")[1]
    assert "".join(out.replace(f"lfads {verb}", f"lfads-{verb}").split()) == "".join(old.split())


def test_verbs_are_listed(monkeypatch, capsys):
    for line, code in (("lfads --help", 0), ("lfads", 2)):
        status, out, err = typed(monkeypatch, capsys, line)
        assert (status, err) == (code, "")
        assert [w.split()[0] for w in out.splitlines() if w.startswith("  ")] == list(VERBS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lfads chek day1.h5", "there is no command 'chek'; did you mean lfads check? The com"),
        ("lfads seed=1", "there is no command 'seed=1'; did you mean lfads train? The"),
        ("lfads -m seed=1,2", "there is no command '-m'; did you mean lfads train? The"),
        ("lfads xyz", "there is no command 'xyz'. The commands are train, prepare"),
        ("lfads check --strct a.h5", "--strct: no such option; did you mean --strict? lfads check"),
        ("lfads-check --strct a.h5", "--strct: no such option; did you mean --strict? lfads-check"),
        ("lfads prepare --bin_width_s=1 a.nwb", "--bin_width_s: no such option; did you mean --"),
        ("lfads prepare a.nwb", "--out must be given; lfads prepare --help lists all"),
        ("lfads prepare a.nwb --out d --window-s 1", "--window-s: expected 2 arguments; lfads"),
        ("lfads align a.h5 --factors-dim x", "--factors-dim is 'x'; expected an integer; lfads al"),
        ("lfads align a.h5 --factors-dim 3 --ridge x", "--ridge is 'x'; expected a number or cv; "),
        (
            "lfads export run --to nbw",
            "--to is 'nbw'; expected nwb, mat, npz or nlb; did you mean nwb?",
        ),
        ("lfads merge run other", "unexpected argument other; lfads merge --help lists all"),
    ],
)  # fmt: skip
def test_mistake_in_a_command_line_is_one_line(line, said, monkeypatch, capsys):
    status, out, err = typed(monkeypatch, capsys, line)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {said}"), err
    assert err.count("\n") == 1


def test_older_spellings_of_options_work():
    assert parser_of(merge).given(["run", "--data", "d"]) == {
        "run": Path("run"),
        "data_dir": Path("d"),
    }
    words = ["run", "--to", "nwb", "--session-start", "2026-01-31T14:00:00+00:00"]
    assert parser_of(export).given(words)["session_start_time"].year == 2026


def parser_of(module):
    return Parser(module.__name__.rpartition(".")[2], "", module.Options)


def test_option_that_is_repeated_adds_to_it():
    words = ["run", "--session", "a", "b", "--session", "c", "--metrics", "co_bps"]
    given = parser_of(evaluate).given(words)
    assert given == {"run": Path("run"), "session": ["a", "b", "c"], "metrics": ["co_bps"]}


def test_programs_answer_before_what_takes_long_is_imported():
    """Each in a fraction of a second: no torch, h5py, scipy, Hydra."""
    slow = "torch", "h5py", "scipy", "hydra", "matplotlib", "numpy", "omegaconf"
    code = (
        "import sys; from importlib import import_module; from lfads_lightning.cli import VERBS\n"
    )
    code += "for verb in VERBS: import_module(f'lfads_lightning.cli.{verb}')\n"
    code += f"print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
