"""Continuing a sweep: from this user's own record of it, else from the safe part of its folder.

A command line that somebody else has written can do whatever Hydra can: name classes to build,
set environment variables, read configuration from anywhere. So from ``sweep.yaml`` in a folder
without a record, only values of our own parameters and names of our own presets are used.
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override, OverrideType

from lfads_lightning import params
from lfads_lightning.cli.words import parsed
from lfads_lightning.config import LFADSError
from lfads_lightning.runs.provenance import NOT_FOLLOWED, is_known, is_place, record_of
from lfads_lightning.runs.run import Sweep
from lfads_lightning.search import sweeps

_OPTIONS = {"-m", "--multirun"}
_PRESET_GROUPS = {"experiment", "sweep"}
_NUMBERS = {"hydra.sweeper.n_trials", "hydra.sweeper.n_jobs", "hydra.sweeper.sampler.seed"}
_LEFT_BEHIND = ".submitit"  # holds pickles, which this launcher reads again


def sweep_command(folder: Path, typed: Sequence[str]) -> list[str]:
    """Return the command line that continues a sweep, and change to the sweep's working folder.

    Args:
        folder: the sweep's folder.
        typed: words of this command other than ``resume=``.

    Raises:
        LFADSError: the sweep is somebody else's and asks for more than parameters and presets, or
            leads to a place that the user has not typed; or its working folder is gone.
    """
    record = record_of(folder)
    if "argv" not in record:
        return _of_a_stranger(folder, typed)
    if typed:
        raise LFADSError(
            f"resume={folder}: a sweep continues as it was started; leave out {' '.join(typed)}"
        )
    command = sweeps.continued(record["argv"], folder)
    try:
        os.chdir(record["cwd"])
    except OSError as error:
        raise LFADSError(
            f"{folder}: the sweep was started in {record['cwd']}, which cannot be entered "
            f"({error.strerror})"
        ) from error
    return command


def _of_a_stranger(folder: Path, typed: Sequence[str]) -> list[str]:
    where = Sweep(folder).command
    if os.path.lexists(folder / _LEFT_BEHIND):
        raise LFADSError(
            f"{folder / _LEFT_BEHIND}: holds programs that a launcher left, and you have not run "
            "this sweep on this machine; remove it"
        )
    keys = {o.key_or_group for o in parsed(typed)}
    words = sweeps.command_in(folder)
    kept = [word for word in words if word in _OPTIONS]
    if options := [word for word in words if word.startswith("-") and word not in _OPTIONS]:
        raise _says_too_much(options[0], where)
    for override in parsed([word for word in words if word not in _OPTIONS], str(where)):
        key, word = override.key_or_group, str(override.input_line)
        if key == "hydra.sweep.dir":
            continue
        _check(override, word, where)
        if _says_where(override) and not _lies_inside(override, folder):
            if key not in keys:
                value = word.partition("=")[2]
                raise LFADSError(
                    NOT_FOLLOWED.format(
                        where=where, parameter=key, value=value, typed=shlex.quote(word)
                    )
                )
        elif key not in keys:
            kept.append(word)
    strangers = [o for o in parsed(typed) if not (_says_where(o) or _starts_jobs(o.key_or_group))]
    if strangers:
        raise LFADSError(
            f"resume={folder}: a sweep continues as it was started; leave out "
            f"{strangers[0].input_line}"
        )
    return sweeps.continued([*kept, *typed], folder)


def _check(override: Override, word: str, where: Path) -> None:
    """Refuse an override unless it sets one of our parameters or presets.

    Raises:
        LFADSError: it sets something else.
    """
    key = override.key_or_group
    ours = key in params.dotted_names().values() or key in params.groups() or key in _PRESET_GROUPS
    plain = override.type is OverrideType.CHANGE and override.package is None and "${" not in word
    number = key in _NUMBERS and type(override.value()) is int
    if not plain or not (ours or number or _starts_jobs(key)):
        raise _says_too_much(word, where)


def _says_too_much(word: str, where: Path) -> LFADSError:
    return LFADSError(
        f"{where}: says {word}, and you have not run this sweep on this machine; from a sweep that "
        "was sent to you only parameters and presets are used; to continue it, type what it asks "
        f"for yourself, with hydra.sweep.dir={shlex.quote(str(where.parent))}"
    )


def _says_where(override: Override) -> bool:
    key = override.key_or_group
    flat = key.rpartition(".")[2]
    if params.dotted_names().get(flat) != key:
        return _starts_jobs(key)
    text = str(override.input_line).partition("=")[2].strip("'\"")
    return is_place(flat, text) or (flat == "space" and override.is_sweep_override())


def _starts_jobs(key: str) -> bool:
    return key == "launcher" or key.startswith("hydra.launcher.")


def _lies_inside(override: Override, folder: Path) -> bool:
    flat = override.key_or_group.rpartition(".")[2]
    text = str(override.input_line).partition("=")[2].strip("'\"")
    return not override.is_sweep_override() and is_known(folder, flat, text)
