"""A summary of a machine and a run that can be made public: versions, sizes, settings, scores.

People paste it into an issue. It contains no paths, no names that the user chose, and no data: only
the items listed here are shown, whatever else files and settings contain.
"""

import io
import os
import platform
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, suppress
from enum import Enum
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import numpy as np
import torch

from lfads_lightning.config import CANDIDATE_NAMES, Config, LFADSError
from lfads_lightning.evaluation.table import NOTES, read_table
from lfads_lightning.model import builds, native
from lfads_lightning.params import dotted_names, flat_value, settings_of
from lfads_lightning.report import about
from lfads_lightning.runs.run import Run, Search, Sweep
from lfads_lightning.runs.tried import RATE, read_tried

_SCORES = (
    "criterion", "total", "recon", "sample_recon", "hidden_recon", "seen_bits_per_spike",
    "truth_bits_per_spike", "epochs", "updates", "seconds", *NOTES,
)  # fmt: skip
_CURVES = ("train/total", "valid/total", "train/recon", "valid/recon", "lr", "grad_norm", "ramp/kl")
_OF_THEN = (*about.PACKAGES, "Python", "system", "device")
_RATE = re.compile(re.escape(RATE) + r"[\de.+-]{1,25}")  # name of a learning rate that was tried
_DEVICE = re.compile(r"(cpu|gpu|cuda|mps|auto)(:\d+)?")
_UNREADABLE = "cannot be read"


def of_machine() -> dict[str, str]:
    """Return versions, processor and device: ``{"Python": "3.11.9", …}``."""
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cores += f", {size / 2**30:.1f} GiB"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "lfads-lightning": version("lfads-lightning"),
        "Python": platform.python_version(),
        "system": platform.platform(),
        "processor": cores,
        "CUDA": f"{torch.version.cuda}, {', '.join(devices)}" if devices else "no device",
        "native kernel": _native_kernel(),
        "packages": ", ".join(f"{name} {v}" for name, v in _packages().items()),
    }


def _native_kernel() -> str:
    try:
        with redirect_stderr(io.StringIO()):  # the output contains a path
            native.library()
    except native.NativeUnavailable:
        return "cannot be built" if builds.compiler() else "no C++ compiler"
    return "built"


def _packages() -> dict[str, str]:
    """Return the versions of the installed packages that this package needs or can use."""
    found = {}
    for requirement in requires("lfads-lightning") or ():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if name != "lfads-lightning" and not re.search(r"extra == .dev.", requirement):
            with suppress(PackageNotFoundError):
                found[name] = version(name)
    return dict(sorted(found.items()))


def of_run(run: Run) -> dict[str, str]:
    """Return sizes, settings, scores and findings of a run, a search or a sweep.

    Raises:
        LFADSError: the folder contains none of them.
    """
    sweep, search = Sweep(run.folder), Search(run.folder)
    if sweep.is_there:
        jobs = sweep.jobs()
        failed = sum(job.error.is_file() for job in jobs)
        return {"what": f"sweep of {len(jobs)} jobs, {failed} failed"}
    if not run.has_begun:
        raise LFADSError(
            f"{run.folder}: contains no run, sweep or search; give the folder printed when it began"
        )
    told = {"what": "run"}
    if search.is_there:
        n = len(list(search.member(0).folder.parent.glob("[0-9][0-9]*")))
        told["what"] = f"search of {n} members"
    chosen = run.chosen()
    record = about.read_record(chosen.folder)
    machine = {k: record.machine[k] for k in _OF_THEN if k in record.machine}
    findings = {f.key for f in record.findings if re.fullmatch(r"[a-z_]+", f.key)}
    told |= {
        "written by": ", ".join(f"{k} {v}" for k, v in machine.items()),
        "files": _files(chosen),
        "data": _sizes(chosen),
        "settings": _settings(run),
        "candidates": _candidates(chosen),
        "training": _training(chosen),
        "scores": _scores(chosen),
        "findings": ", ".join(sorted(findings)),
    }
    return {name: text for name, text in told.items() if text}


def _files(run: Run) -> str:
    each = (run.config, run.metrics, run.scores, run.evaluation, run.report, run.report_record)
    there = [path.name for path in each if path.is_file()]
    n = len(list(run.checkpoints.glob("*.ckpt")))
    return ", ".join([*there, f"{n} checkpoints"])


def _sizes(run: Run) -> str:
    table = read_table(run.folder)
    if table is None:
        return ""
    return "; ".join(
        f"session {i}, {part.split if part.split in ('train', 'valid') else 'other'}: "
        + " x ".join(
            f"{part.data[key]:.0f} {key[2:]}"
            for key in ("n_trials", "n_bins", "n_neurons")
            if key in part.data
        )
        for i, part in enumerate(table.parts, 1)
    )


def _settings(run: Run) -> str:
    try:
        config = run.read_config()
    except LFADSError:
        return _UNREADABLE
    if config is None:
        return "none: it never began"
    dotted = dotted_names()
    return ", ".join(f"{dotted[name]}={_value(config, name)}" for name in settings_of(config))


def _value(config: Config, name: str) -> str:
    value = flat_value(config, name)
    if isinstance(value, Enum | bool | int | float) or value is None:
        return about.shown(value)
    if isinstance(value, list | tuple):
        known = all(item in CANDIDATE_NAMES for item in value)
        return f"[{','.join(value)}]" if known else f"({len(value)} values)"
    is_known = name == "device" and _DEVICE.fullmatch(str(value))
    return str(value) if is_known else "(a text)"


def _candidates(run: Run) -> str:
    return ", ".join(
        f"{row['name']} {_number(row['criterion'])}" + (" (chosen)" if row["is_chosen"] else "")
        for row in read_tried(run.folder)
        if row["name"] in CANDIDATE_NAMES or _RATE.fullmatch(row["name"])
    )


def _training(run: Run) -> str:
    columns = run.read_metrics()
    total = columns.get("train/total", np.zeros(0))
    if not len(total):
        return ""
    told = [f"{len(total)} epochs, {int((~np.isfinite(total)).sum())} of them not finite; the last"]
    told += [f"{name} {columns[name][-1]:.4g}" for name in _CURVES if name in columns]
    return ", ".join(told)


def _scores(run: Run) -> str:
    try:
        scores = run.read_scores()
    except LFADSError:
        return _UNREADABLE
    if scores is None:
        return "none: it has not ended"
    return ", ".join(_known_scores(scores))


def _known_scores(scores: Mapping[str, Any]) -> Iterable[str]:
    for split in ("", "train/", "valid/"):
        for name in _SCORES:
            value = scores.get(split + name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{split}{name} {_number(value)}"


def _number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, int | float) else "not finite"


def as_text(facts: Mapping[str, str]) -> str:
    """Return facts as text, one per line."""
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name + ':':<{width}}{text}" for name, text in facts.items())
