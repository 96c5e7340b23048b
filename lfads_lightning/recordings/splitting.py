"""Division of trials into training, validation and test."""

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.keys import SPLITS
from lfads_lightning.recordings.records import Cut
from lfads_lightning.recordings.settings import Settings

_LABELS = {
    "train": "train", "training": "train", "val": "valid", "valid": "valid",
    "validation": "valid", "test": "test", "testing": "test",
}  # fmt: skip


def split_by_column(labels: np.ndarray, cut: Cut, column: str) -> dict[str, np.ndarray]:
    """Divide trials by a column of the trial table.

    Args:
        labels: (E,) labels of these trials: train, val, test, or others, which are left out.
        cut: names the source in error messages, and collects notes.
        column: name of the column.

    Returns:
        Positions of the trials of each split that has any, in rising order.

    Raises:
        LFADSError: the column does not hold texts, or there is no training trial.
    """
    if labels.dtype.kind != "U":
        raise LFADSError(
            f"{cut.source}: split_column={column} holds {labels.dtype}; expected texts: train, "
            "val, test"
        )
    said, roles = [text.strip() for text in labels.tolist()], _roles(labels)
    if not (roles == "train").any():
        raise LFADSError(
            f"{cut.source}: split_column={column} calls no trial train; found "
            f"{listed(sorted(set(said)), 20)}; expected train, val and test"
        )
    left = sorted({text for text, role in zip(said, roles, strict=True) if not role})
    if left:
        cut.notes.append(f"{(roles == '').sum()} trials whose {column} is {listed(left)}")
    splits = {name: np.flatnonzero(roles == name) for name in SPLITS}
    return {name: trials for name, trials in splits.items() if len(trials)}


def _roles(labels: np.ndarray) -> np.ndarray:
    return np.array([_LABELS.get(text.strip().lower(), "") for text in labels.tolist()])


def n_labelled(labels: np.ndarray) -> int:
    """Return how many trials a column labels as training, validation or test."""
    return int((_roles(labels) != "").sum()) if labels.dtype.kind == "U" else 0


def split_trials(
    n_trials: int, condition: np.ndarray | None, settings: Settings, cut: Cut
) -> dict[str, np.ndarray]:
    """Divide trials into splits, each condition in the same shares.

    Args:
        n_trials: E.
        condition: (E,) labels, or None.
        settings: fractions, and how trials are chosen.
        cut: the trials; overlapping neighbours stay in one split, and error messages name the
            source and what was left out.

    Returns:
        Positions of the trials of each split that has any, in rising order.

    Raises:
        LFADSError: there are too few trials for the splits asked for.
    """
    n_together = cut.n_together
    n = -(-n_trials // n_together)
    labels = np.zeros(n, int)
    if condition is not None and n_together == 1:
        labels = np.unique(condition, return_inverse=True)[1].ravel()
    drawn = np.arange(n)
    if settings.split == "random":
        drawn = np.random.default_rng(settings.seed).permutation(n)
    order = np.lexsort((drawn, labels))
    role = np.zeros(n, int)
    role[order[_spaced(n, settings.valid_fraction)]] = 1
    rest = order[role[order] == 0]
    share = settings.test_fraction / (1 - settings.valid_fraction)
    role[rest[_spaced(len(rest), share)]] = 2
    each = np.repeat(role, n_together)[:n_trials]
    splits = {name: np.flatnonzero(each == k) for k, name in enumerate(SPLITS)}
    asked = {"train": 1.0, "valid": settings.valid_fraction, "test": settings.test_fraction}
    for name, trials in splits.items():
        if asked[name] > 0 and len(trials) == 0:
            pieces = "trials" if n_together == 1 else f"groups of {n_together} chops"
            left_out = f" (left out: {'; '.join(cut.notes)})" if cut.notes else ""
            raise LFADSError(
                f"{cut.source}: {n} {pieces} are too few for a {name} split{left_out}; expected "
                "more; use more of the recording, or valid_fraction=0"
            )
    return {name: trials for name, trials in splits.items() if len(trials)}


def _spaced(n: int, share: float) -> np.ndarray:
    """Return positions, evenly spaced from 0 on: every fifth for a share of 0.2."""
    if share <= 0:
        return np.zeros(0, int)
    # slightly more, so that 0.2 * 5 is 1 despite rounding
    crossed = np.floor(np.arange(-1, n) * share + 1e-9)
    return np.flatnonzero(np.diff(crossed) > 0)
