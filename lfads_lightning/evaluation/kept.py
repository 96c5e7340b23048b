"""Scores of the sessions that are already scored, kept while a run is finishing.

Scoring a hundred sessions takes minutes; after an interrupt, or an error in one session, the others
need not be scored again. The file is deleted once all sessions are scored.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.evaluation.table import Part
from lfads_lightning.inference.copying import Gains
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.run import Run


class Kept(NamedTuple):
    """The scores of a session.

    Attributes:
        part: the session's part of the table.
        gains: gains on hidden entries and on the rest, for counts.
        copying: the warning from the comparison with the true rates, or None.
    """

    part: Part
    gains: Gains | None
    copying: str | None


def write_kept(folder: Path, of: Mapping[str, Any], kept: Mapping[str, Kept]) -> None:
    """Write the scores so far to a run's folder.

    Args:
        folder: the run's folder.
        of: what the scores depend on (updates, samples, sizes of the data), as plain values.
        kept: scores by session.
    """
    done = {
        name: {
            "part": k.part._asdict(),
            "gains": None if k.gains is None else [np.asarray(g).tolist() for g in k.gains],
            "copying": k.copying,
        }
        for name, k in kept.items()
    }
    with whole_file(Run(folder).unfinished_scores) as path:
        path.write_text(json.dumps({"of": dict(of), "sessions": done}))


def read_kept(folder: Path, of: Mapping[str, Any]) -> dict[str, Kept]:
    """Read the scores that an interrupted run kept; empty unless they depend on the same values."""
    try:
        state = read_json(Run(folder).unfinished_scores)
        if state["of"] != json.loads(json.dumps(dict(of))):
            return {}
        return {str(name): _kept(each) for name, each in state["sessions"].items()}
    except (OSError, LFADSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # it can be computed again


def _kept(state: Mapping[str, Any]) -> Kept:
    part = state["part"]
    rows = {
        str(m): {str(k): math.nan if v is None else float(v) for k, v in row.items()}
        for m, row in part["rows"].items()
    }
    gains = state["gains"]
    return Kept(
        Part(
            str(part["session"]),
            str(part["split"]),
            rows,
            {str(k): str(v) for k, v in part["about"].items()},
            {str(k): v for k, v in part["data"].items() if isinstance(v, int | float)},
        ),
        None
        if gains is None
        else Gains(np.array(gains[0]), np.array(gains[1]), float(gains[2]), float(gains[3])),
        None if state["copying"] is None else str(state["copying"]),
    )
