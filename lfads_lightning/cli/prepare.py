"""``lfads prepare``: recordings to session files."""

import ast
import dataclasses
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfads_lightning.cli.options import Parser, typed_name
from lfads_lightning.cli.programs import command, fail, show_warning
from lfads_lightning.commands import option
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.settings import Settings, session_name

DESCRIPTION = """\
Convert recordings to session files. Reads NWB, MATLAB (v5, v7.3), .npz, .npy, CSV and parquet
tables, folders of Kilosort, Phy, SpikeInterface and IBL (ALF), and, through neo, Blackrock, Plexon,
Neuralynx, TDT and others. Each recording becomes NAME.h5 in the folder OUT. All times are in
seconds. RECORDING and OUT can be in a bucket (s3://bucket/folder); file names can contain the
wildcards * and ?."""
EPILOGUE = """\
examples:
  %(prog)s day1.nwb --out data --bin-width-s 0.01 --align-to go_cue_time --window-s -0.2 0.5
  %(prog)s counts.npz --out data --behaviour velocity
  %(prog)s spikes.csv --out data --bin-width-s 0.01 --chop-bins 100 --overlap-bins 20
  %(prog)s sorted/ --trials trials.csv --out data --bin-width-s 0.01 --window-s -0.2 0.5 \\
    --align-to go_cue_time --unit-quality good,mua
  %(prog)s day1.nwb --out data --bin-width-s 0.01 --where "success and rt < 600" --units "id != 3"
  %(prog)s --nlb mc_maze desc-train.nwb --out data
exit status: 0 all files were written, 1 a recording could not be converted (the others were),
2 wrong usage"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which recordings to convert, and where to write; ``Settings`` says how."""

    recordings: tuple[str | Path, ...] = option(
        doc="a file or a folder", metavar="RECORDING", positional=True
    )
    out: str | Path = option(doc="folder for the session files", metavar="OUT")
    name: str | None = option(
        None, "name of the session (default: the name of the file or folder, without extension)"
    )


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lfads prepare ...``; a user's mistake ends with one line."""
    given = parser().given(argv)
    options = Options(**{f.name: given.pop(f.name) for f in dataclasses.fields(Options)
                         if f.name in given})  # fmt: skip
    # numpy and h5py are imported once the command line is known to be right
    from lfads_lightning.runs.remote import expanded

    try:
        settings = Settings(**given)
        recordings = expanded(options.recordings)
        _check_names(recordings, options.name, settings)
    except LFADSError as error:
        fail(LFADSError(_as_options(error)))
    from lfads_lightning.recordings.prepare import prepare_recording

    failed = 0
    warnings.showwarning = _show_warning
    for path in recordings:
        try:
            made = prepare_recording(path, options.out, options.name, settings)
        except LFADSError as error:
            failed = 1
            print(f"error: {_as_options(error)}", file=sys.stderr)
            continue
        print(made.summary)
        for note in made.notes:
            print(f"  left out: {note}")
        if made.behaviour:
            print(f"  {made.behaviour}")
    return failed


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    show_warning(_as_options(str(message)), category)


def parser() -> Parser:
    """Return the parser of the command line: it has an option for each of the settings."""
    return Parser("prepare", DESCRIPTION, Options, Settings, epilog=EPILOGUE)


def _check_names(recordings: list[str | Path], name: str | None, settings: Settings) -> None:
    """Refuse two recordings that would become one file."""
    if name is not None and len(recordings) > 1:
        raise LFADSError(
            f"--name {name} names one recording, but {len(recordings)} are given; prepare each by "
            "itself"
        )
    stems: dict[str, str | Path] = {}
    for path in recordings:
        stem = settings.nlb or session_name(path)
        other = stems.setdefault(stem, path)
        if other is not path:
            raise LFADSError(
                f"{other} and {path} would both become {stem}.h5; expected different names; "
                "prepare each by itself, with --name"
            )


def _as_options(error: LFADSError | str) -> str:
    """Write options the way they are typed: window_s=(0, 0.5) as --window-s 0 0.5."""
    fields = sorted((f.name for f in dataclasses.fields(Settings)), key=len, reverse=True)

    def typed(found: re.Match) -> str:
        name, equals, values = found.groups()
        if not equals and "_" not in name:  # a word of the sentence
            return found[0]
        return typed_name(name) + " " * len(equals) + _as_words(values or "")

    return re.sub(rf"(?<![\w/.-])({'|'.join(fields)})\b(=?)(\([^()]*\))?", typed, str(error))


def _as_words(values: str) -> str:
    """Write a Python tuple as the words of a command line."""
    try:
        return " ".join(shlex.quote(f"{v}") for v in ast.literal_eval(values)) if values else ""
    except (ValueError, SyntaxError):  # it is part of a sentence
        return values.strip("()").replace(",", "")
