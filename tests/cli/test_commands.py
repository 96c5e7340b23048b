"""What all programs have in common: how they end."""

import subprocess
import sys
import warnings
from contextlib import suppress
from importlib.metadata import entry_points

import pytest

import lfads_lightning as lfads
from lfads_lightning.commands import command
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
from lfads_lightning.commands import command
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
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (75, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_reader_that_has_gone_is_no_traceback():
    code = """
from lfads_lightning.commands import command
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
    assert process.wait(timeout=60) == 1
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
