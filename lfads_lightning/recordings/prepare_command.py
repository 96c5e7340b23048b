"""The command `lfads-prepare`: recordings to session files."""

import argparse
import ast
import dataclasses
import re
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

from lfads_lightning.commands import add_version, command, show_warning
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.settings import Settings, session_name
from lfads_lightning.runs.remote import expanded, path_or_address

DESCRIPTION = """\
Make session files of recordings: NWB, MATLAB (v5, v7.3), .npz, spike times in CSV or parquet
tables, or folders of Kilosort and Phy. Each recording becomes NAME.h5 in the folder OUT. All times
are in seconds. Files and OUT may lie in a bucket (s3://bucket/folder; in file names * and ? are
filled in)."""
EPILOGUE = """\
examples:
  lfads-prepare day1.nwb --out data --bin-width-s 0.01 --align-to go_cue_time --window-s -0.2 0.5
  lfads-prepare counts.npz --out data --behaviour velocity
  lfads-prepare spikes.csv --out data --bin-width-s 0.01 --chop-bins 100 --overlap-bins 20
  lfads-prepare sorted/ --trials trials.csv --out data --bin-width-s 0.01 --window-s -0.2 0.5 \\
    --align-to go_cue_time --unit-quality good,mua
exit status: 0 all were written, 1 a recording is not as it must be (the others are written),
2 wrong usage"""


@command
def main(argv: list[str] | None = None) -> int:
    """Run `lfads-prepare ...`; a user's mistake ends with one line."""
    reader = parser()
    given = vars(reader.parse_args(argv))
    recordings, out = given.pop("recordings"), given.pop("out")
    try:
        settings = Settings(**given)
        recordings = expanded(recordings)
        _check_names(recordings)
    except LFADSError as error:
        reader.exit(2, f"error: {_as_options(error)}\n")
    # numpy and h5py are imported once the command line is known to be right
    from lfads_lightning.recordings.prepare import prepare_recording

    failed = 0
    warnings.showwarning = _show_warning
    for path in recordings:
        try:
            made = prepare_recording(path, out, None, settings)
        except LFADSError as error:
            failed = 1
            print(f"error: {_as_options(error)}", file=sys.stderr)
            continue
        print(made.summary)
        for note in made.notes:
            print(f"  left out: {note}")
    return failed


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    show_warning(_as_options(str(message)), category)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line: an option for each of the settings."""
    reader = argparse.ArgumentParser(
        prog="lfads-prepare",
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(reader)
    reader.add_argument("recordings", nargs="+", type=path_or_address, metavar="RECORDING")
    reader.add_argument(
        "--out", type=path_or_address, required=True, help="folder for the session files"
    )
    for f in dataclasses.fields(Settings):
        reader.add_argument(_option(f.name), dest=f.name, default=f.default, **_words(f))
    return reader


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _words(f: dataclasses.Field) -> dict[str, Any]:
    """Return what argparse must know of an option."""
    doc, kind = f.metadata["doc"], f.metadata["kind"]
    if kind is bool:
        return {"action": "store_true", "help": doc}
    if f.default not in (None, ()):
        doc += f" (default: {f.default})"
    words: dict[str, Any] = {"type": kind, "help": doc.replace("%", "%%")}
    if f.metadata.get("choices") is None:
        words["metavar"] = {float: "X", int: "N", str: "NAME"}[kind]
    if f.metadata.get("nargs") == 2:
        words["metavar"] = ("FROM", "TO")
    return words | {k: f.metadata[k] for k in ("nargs", "choices") if k in f.metadata}


def _check_names(recordings: list[str | Path]) -> None:
    """Refuse two recordings that would become one file."""
    stems: dict[str, str | Path] = {}
    for path in recordings:
        stem = session_name(path)
        other = stems.setdefault(stem, path)
        if other is not path:
            raise LFADSError(
                f"{other} and {path} would both become {stem}.h5; expected unlike names; "
                "prepare them into two folders"
            )


def _as_options(error: LFADSError | str) -> str:
    """Write options as they are typed: window_s=(0, 0.5) as --window-s 0 0.5."""
    fields = sorted((f.name for f in dataclasses.fields(Settings)), key=len, reverse=True)

    def typed(found: re.Match) -> str:
        name, equals, values = found.groups()
        if not equals and "_" not in name:  # a word of the sentence
            return found[0]
        return _option(name) + " " * len(equals) + _as_words(values or "")

    return re.sub(rf"(?<![\w/.-])({'|'.join(fields)})\b(=?)(\([^()]*\))?", typed, str(error))


def _as_words(values: str) -> str:
    """Write a Python tuple as the words of a command line."""
    try:
        return " ".join(shlex.quote(f"{v}") for v in ast.literal_eval(values)) if values else ""
    except (ValueError, SyntaxError):  # a part of a sentence
        return values.strip("()").replace(",", "")
