"""How much of a large recording is scored and drawn at the end of training."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lfads_lightning.data.sessions import Session, Split

# per split; the results inferred for these take about as much memory as half a GB of counts
MOST_ENTRIES = 2**25


def scored_sessions(sessions: Sequence[Session]) -> list[Session]:
    """Return sessions with at most 33 million entries in each split, for scores and figures.

    Inferred results take several times the memory of the counts. Larger splits are reduced to
    evenly spaced trials, with a warning.
    """
    cut = []
    for session in (s.trimmed() for s in sessions):
        splits = {name: fewer(split, MOST_ENTRIES) for name, split in session.splits.items()}
        n = {name: len(split.data) for name, split in splits.items()}
        were = {name: len(split.data) for name, split in session.splits.items()}
        if n == were:
            cut.append(session)
            continue
        shown = ", ".join(f"{n[name]} of {were[name]} {name}" for name in n)
        warnings.warn(
            f"{session.source}: to save memory, scores and figures use {shown} trials, evenly "
            "spaced",
            stacklevel=3,
        )
        cut.append(replace(session, train=splits["train"], valid=splits.get("valid")))
    return cut


def fewer(split: Split, most_entries: int) -> Split:
    """Return a split reduced to evenly spaced trials with at most ``most_entries`` of data."""
    n_trials = len(split.data)
    most = max(most_entries * n_trials // split.data.size, 1)
    if most >= n_trials:
        return split
    rows = np.linspace(0, n_trials - 1, most).round().astype(int)
    return split.rows(rows)
