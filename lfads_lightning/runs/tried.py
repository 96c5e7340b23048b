"""Results of the structures and learning rates that a run tried (``tried.json``)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lfads_lightning.config import LFADSError
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.run import Run

RATE = "rate_"  # the name of a training with a learning rate begins with it


class Tried(NamedTuple):
    """A candidate and its result: a structure, or a learning rate."""

    name: str
    settings: dict[str, Any]  # flat names
    criterion: float | None  # the lowest; None if no loss was finite
    updates: int
    seconds: float


def name_of_rate(rate: float) -> str:
    """Return the name of the training with a learning rate.

    >>> name_of_rate(0.004)
    'rate_0.004'
    """
    return f"{RATE}{rate!r}"


def by_kind(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of each kind, ``structure`` and ``learning rate``, best first."""
    kinds = {"structure": False, "learning rate": True}
    return {
        kind: best_first([row for row in rows if row["name"].startswith(RATE) is is_rate])
        for kind, is_rate in kinds.items()
    }


def best_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return candidates by criterion, the lowest first, those without a finite one last."""
    return sorted(rows, key=lambda r: math.inf if r["criterion"] is None else r["criterion"])


def read_tried(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's ``tried.json``; empty if no candidates were tried."""
    try:
        rows = read_json(Run(folder).candidates_record)
    except (FileNotFoundError, LFADSError):
        return []
    keys = {*Tried._fields, "is_chosen"}
    return rows if isinstance(rows, list) and all(_is_ours(row, keys) for row in rows) else []


def _is_ours(row: Any, keys: set[str]) -> bool:
    if not isinstance(row, dict) or not keys <= set(row) or not isinstance(row["name"], str):
        return False
    criterion = row["criterion"]
    return isinstance(row["settings"], dict) and (
        criterion is None or (isinstance(criterion, int | float) and math.isfinite(criterion))
    )
