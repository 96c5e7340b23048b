"""Checks of the command line, before anything is created, and the overrides that it implies."""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString

from lfads_lightning import params
from lfads_lightning.cli.help import presets_of
from lfads_lightning.cli.replay import sweep_command
from lfads_lightning.cli.words import flat_as_typed, parsed
from lfads_lightning.commands import override as override_word
from lfads_lightning.config import Kind, LFADSError
from lfads_lightning.runs.names import COMMAND, CONFIG
from lfads_lightning.runs.params_file import read_params_file
from lfads_lightning.runs.provenance import check_file_of_parameters
from lfads_lightning.runs.run import Run, Sweep
from lfads_lightning.search.space import find_space, read_space

DEFAULT_EXPERIMENT = "lorenz"
_DATA_CHOICES = {"data.data_dir", "data.data_filename_stem", "params_file", "experiment", "data"}
_PRESET_GROUPS = ("experiment", "sweep", "launcher")


def prepare(argv: Sequence[str]) -> list[str]:
    """Check the overrides of a command line, and add those that they imply.

    Adds the embedded Lorenz experiment if no data are named, and makes Hydra's folder the run
    folder if one is given.

    Raises:
        LFADSError: a parameter is unknown, a value is wrong, or a kind needs a run and has none.
    """
    argv = _options_first(argv)
    given, _ = get_args_parser().parse_known_args(argv)
    if given.hydra_help or given.info or given.shell_completion:
        return argv
    resumed = [word for word in given.overrides if word.startswith("resume=")]
    if resumed:
        return prepare(_resumed(argv, resumed[-1]))
    overrides = parsed(given.overrides)
    is_sweep = is_sweep_of(given.multirun, overrides)
    values = {}
    for override in overrides:
        key, name = override.key_or_group, parameter_of(override)
        if override.is_sweep_override() and not is_sweep:
            raise LFADSError(
                f"command line: {override.input_line} names several values; add -m to try each in "
                "turn, or quote the value if the comma belongs to it"
            )
        if name is None:
            _check_presets(override, given.config_dir)
            continue
        values[key] = override.value()
        for value in _choices(override):
            params.check_value(name, value, "command line")
        _check_interval(override)
    if "search.space" in values:
        read_space(find_space(_text(values["search.space"])), of_any_parameter=True)
    extra = _implied(values, {o.key_or_group for o in overrides}, is_sweep)
    return with_overrides(argv, given.overrides, extra)


def _options_first(argv: Sequence[str]) -> list[str]:
    """Put the overrides after the options: Hydra accepts them only in one block."""
    nargs = {name: a.nargs for a in get_args_parser()._actions for name in a.option_strings}
    options: list[str] = []
    overrides: list[str] = []
    before = ""
    for word in argv:
        takes = nargs.get(before, 0)  # None: one word, "?": perhaps one
        is_value = takes is None or (takes == "?" and "=" not in word)
        (options if word.startswith("-") or is_value else overrides).append(word)
        before = word
    return options + overrides


def is_sweep_of(multirun: bool, overrides: Sequence[Override]) -> bool:
    """Return whether a command line asks for a sweep, with ``-m`` or ``sweep=NAME``."""
    return multirun or any(o.key_or_group == "sweep" for o in overrides)


def _resumed(argv: list[str], word: str) -> list[str]:
    """Return the command line that continues a sweep, a search or a run.

    Raises:
        LFADSError: the folder contains none of them.
    """
    typed = word.removeprefix("resume=")
    is_quoted = typed[:1] in ("'", '"')
    run = Run.open(_text(parsed([word])[0].value()) if is_quoted else typed)
    others = [w for w in argv if not w.startswith("resume=")]
    if Sweep(run.folder).is_there:
        return sweep_command(run.folder, others)
    if run.has_begun:
        return [*others, override_word("output.lfads_save_dir", run.folder)]
    raise LFADSError(
        f"resume={run.folder}: holds neither a run ({CONFIG}) nor a sweep ({COMMAND}); give "
        "the folder that was printed when it began"
    )


def parameter_of(override: Override) -> str | None:
    """Return the flat name of the parameter that an override sets; None for presets and Hydra's.

    Raises:
        LFADSError: there is no such parameter.
    """
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra":
        return None
    flat = key.rsplit(".", 1)[-1]
    if params.dotted_names().get(flat) == key and not override.is_delete():
        return flat
    if key in params.groups() or key in _PRESET_GROUPS:
        return None
    if override.is_delete():
        raise LFADSError(f"command line: ~{key} removes nothing; parameters keep their defaults")
    raise LFADSError(f"command line: no parameter is named {key!r}{params.nearest(key)}")


def _check_presets(override: Override, config_dir: str | None) -> None:
    group = override.key_or_group
    if group.split("/")[0] == "hydra" or "." in group or override.is_delete():
        return
    known = presets_of(group, config_dir)
    for choice in _choices(override):
        if choice is not None and str(choice) not in known:
            listed = f"there are {', '.join(known)}" if known else "the group has none"
            raise LFADSError(f"command line: {group}={choice}: no such preset; {listed}")


def _check_interval(override: Override) -> None:
    """Check an interval for Optuna to draw from; Hydra's own message would be a traceback."""
    if not override.is_interval_sweep():
        return
    value, name = override.value(), override.key_or_group
    assert isinstance(value, IntervalSweep)
    low, high = float(value.start or 0), float(value.end or 0)
    if low >= high:
        raise LFADSError(f"command line: {name}: {low:g} is not below {high:g}; swap them")
    if "log" in value.tags and low <= 0:
        raise LFADSError(f"command line: {name}: a logarithmic interval cannot start at {low:g}")
    flat = name.rsplit(".", 1)[-1]
    for bound in (value.start, value.end):
        params.check_value(flat, bound, "command line")


def _choices(override: Override) -> Iterable[Any]:
    """Return the values of an override, one per job of a sweep."""
    values: Iterable[Any]
    if override.is_sweep_override():
        values = override.sweep_iterator() if override.is_discrete_sweep() else ()
    else:
        values = (override.value(),)
    return [v.text if isinstance(v, QuotedString) else v for v in values]


def _implied(values: dict[str, Any], keys: set[str], is_sweep: bool) -> list[str]:
    folder = values.get("output.lfads_save_dir")
    file = values.get("params_file")
    from_file = {}
    if isinstance(file, str | QuotedString):
        from_file = read_params_file(_text(file))
        typed = {key.rsplit(".", 1)[-1]: _text(value) for key, value in values.items()}
        check_file_of_parameters(_text(file), from_file, typed, flat_as_typed)
    folder = folder or from_file.get("lfads_save_dir")
    if folder is not None and not is_sweep:
        folder = str(Run.open(_text(folder)).folder)
    kind = values.get("kind") or from_file.get("kind", Kind.train)
    kind = kind.name if isinstance(kind, Kind) else _text(kind)
    extra = []
    if kind != "train":
        if folder is None or not Path(_text(folder)).is_dir():
            found = "" if folder is None else f"; {_text(folder)} is not a folder"
            raise LFADSError(
                f"kind={kind} works on a trained model; say which: output.lfads_save_dir=RUN, the "
                f"folder that training printed last{found}"
            )
    elif not keys & _DATA_CHOICES and not (folder and Run(Path(_text(folder))).has_begun):
        print(
            f"No data named: this run uses experiment={DEFAULT_EXPERIMENT} (embedded data, sizes "
            "that suit it). For your own, give data.data_dir=FOLDER data.data_filename_stem=STEM",
            file=sys.stderr,
        )
        extra.append(f"experiment={DEFAULT_EXPERIMENT}")
    if folder is None and not is_sweep and "hydra.run.dir" not in keys:
        _check_writable(Path("outputs"))
    if folder is not None and not is_sweep:
        _check_writable(Path(_text(folder)))
        extra.append(override_word("hydra.run.dir", _text(folder)))
    elif folder is not None and kind == "train":
        raise LFADSError(
            f"output.lfads_save_dir={_text(folder)} in a sweep: its jobs would share one folder; "
            "name the sweep's folder by hydra.sweep.dir=FOLDER"
        )
    return extra


def _check_writable(folder: Path) -> None:
    """Check that a run's folder can be created and written, before Hydra fails with a traceback.

    Raises:
        LFADSError: the folder cannot be written.
    """
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise LFADSError(f"output.lfads_save_dir={folder}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise LFADSError(
            f"output.lfads_save_dir={folder}: {there} cannot be written; choose another folder, or "
            "ask for permission to write there"
        )


def _text(value: Any) -> str:
    text = value.text if isinstance(value, QuotedString) else str(value)
    return re.sub(r"(\\*)\1\\\$\{", r"\1${", text)  # as OmegaConf reads it


def with_overrides(argv: list[str], overrides: list[str], extra: list[str]) -> list[str]:
    """Put ``extra`` next to the other overrides; argparse accepts them only in one block."""
    at = argv.index(overrides[0]) if overrides else len(argv)
    return argv[:at] + extra + argv[at:]
