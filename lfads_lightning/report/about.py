"""Tables of what was run: the machine and its versions, the settings, the data."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lfads_lightning.config import Config
from lfads_lightning.data.recipe import Chosen
from lfads_lightning.data.sessions import Session
from lfads_lightning.params import dotted_names, flat_value, settings_of
from lfads_lightning.report.findings import Finding
from lfads_lightning.report.page import Table
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.run import Run
from lfads_lightning.runs.tried import by_kind

ENDED = "ended (UTC)"
PACKAGES = ("lfads-lightning", "torch", "lightning", "numpy", "matplotlib")


class Record(NamedTuple):
    """The content of report.json: facts about a run, for reports that are written later.

    Attributes:
        machine: texts by name: versions, device, when the run ended.
        findings: see :mod:`lfads_lightning.report.findings`.
        chosen: the settings that ``recipe=auto`` chose, if it was used.
    """

    machine: dict[str, str]
    findings: list[Finding]
    chosen: Chosen | None = None


def this_machine(device: torch.device) -> dict[str, str]:
    """Return versions, system and device of this machine."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {
        ENDED: datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
        **{name: version(name) for name in PACKAGES},
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "device": kind,
    }


def write_record(folder: Path, record: Record) -> None:
    """Write report.json."""
    state: dict[str, Any] = {
        "machine": record.machine,
        "findings": [f._asdict() for f in record.findings],
    }
    if record.chosen is not None:
        state["chosen"] = record.chosen._asdict()
    with whole_file(Run(folder).report_record) as path:
        path.write_text(json.dumps(state, indent=1))


def read_record(folder: Path) -> Record:
    """Read report.json; empty if it is missing or cannot be read."""
    try:
        state = read_json(Run(folder).report_record)
        machine = {str(k): str(v) for k, v in state["machine"].items()}
        found = [
            Finding(**{k: str(entry[k]) for k in Finding._fields}) for entry in state["findings"]
        ]
        chosen = None
        if "chosen" in state:
            facts, settings = (state["chosen"][key] for key in Chosen._fields)
            known = dotted_names()
            chosen = Chosen(str(facts), {k: v for k, v in settings.items() if k in known})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Record({}, [])
    return Record(machine, found, chosen)


def settings_table(config: Config) -> Table:
    """Return the parameters that differ from their defaults."""
    default, dotted = Config(), dotted_names()
    rows = [
        (dotted[name], shown(flat_value(config, name)), shown(flat_value(default, name)))
        for name in settings_of(config)
    ]
    return Table(
        "Parameters that differ from their defaults", ("parameter", "here", "default"), rows
    )


def chosen_table(chosen: Chosen) -> Table:
    """Return the settings that ``recipe=auto`` chose."""
    dotted = dotted_names()
    rows = [(dotted[name], shown(value)) for name, value in chosen.settings.items()]
    caption = f"Chosen by recipe=auto for {chosen.facts}"
    return Table(caption, ("parameter", "value"), rows, folded=True)


def candidates_tables(tried: Sequence[Mapping[str, Any]], criterion: str) -> list[Table]:
    """Return what was tried before training, best first: structures, and learning rates."""
    kinds = by_kind(tried).items()
    return [_candidates_table(kind, rows, criterion) for kind, rows in kinds if rows]


def _candidates_table(kind: str, rows: Sequence[Mapping[str, Any]], criterion: str) -> Table:
    cells = [
        (
            str(row["name"]),
            ", ".join(f"{name} {shown(value)}" for name, value in row["settings"].items()),
            "not finite" if row["criterion"] is None else f"{row['criterion']:.1f}",
            str(row["updates"]),
            str(row["seconds"]),
            "chosen" if row["is_chosen"] else "–",
        )
        for row in rows
    ]
    header = (kind, "settings", f"{criterion}, nats per trial", "updates", "seconds", "")
    return Table(f"{kind.capitalize()}s that were tried", header, cells)


def shown(value: Any) -> str:
    """Return a parameter's value the way it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(getattr(value, "name", value))


def data_table(sessions: Sequence[Session], is_counts: bool) -> Table:
    """Return the size of each session, and its mean rate."""
    rows = []
    for s in sessions:
        data = s.train.data
        known = s.train.present
        mean = float((data if known is None else data[known]).mean(dtype=np.float64))
        unit = 1 if s.bin_width_s is None else 1 / s.bin_width_s
        n_valid = 0 if s.valid is None else len(s.valid.data)
        row = [s.name, f"{len(data)}", f"{n_valid}", f"{s.n_bins}", f"{s.data_dim}"]
        if is_counts:
            row += [f"{mean * unit:.3g}" + (" / bin" if s.bin_width_s is None else " / s")]
            row += [str(int((~data.any(axis=(0, 1))).sum()))]
        row.append("not known" if s.train.truth is None else "known")
        rows.append(row)
    counts = ["mean rate", "silent neurons"] if is_counts else []
    header = [
        "session",
        "training trials",
        "validation trials",
        "bins",
        "neurons",
        *counts,
        "true rates",
    ]
    width = {s.bin_width_s for s in sessions} - {None}
    bins = f"; bins of {1000 * min(width):g} ms" if len(width) == 1 else ""  # type: ignore[type-var,operator]
    return Table(f"Data{bins}", header, rows)


def machine_table(machine: dict[str, str]) -> Table:
    """Return versions and device."""
    return Table("Machine and versions", ("what", "which"), list(machine.items()))
