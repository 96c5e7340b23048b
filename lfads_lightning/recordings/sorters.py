"""What sorters' folders have in common: samples per second, and what units are called."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from lfads_lightning.recordings import names

UNSORTED = "unsorted"  # Phy's word for units without a label


def warn_of_rate(stated: float | None, given: float, where: str) -> None:
    """Warn where the option ``sampling_rate_hz`` is other than what the folder states, if it does.

    Args:
        stated: samples per second, by the folder.
        given: the same, by the option; it is what counts.
        where: the file that states it, and under which name.
    """
    if stated is not None and abs(stated - given) > 1e-6 * given:
        warnings.warn(
            f"{where} of {stated:.9g}; sampling_rate_hz={given:.9g} is used", stacklevel=4
        )


def quality(columns: Mapping[str, np.ndarray], keys: Sequence[str]) -> np.ndarray | None:
    """Return what each unit is called by the first of these columns that says it of any.

    Args:
        columns: (D,) each, properties of the units.
        keys: names of columns in lower case, what a person decided first.
    """
    for name in keys:
        key = names.find(columns, (name,))
        if key is None or columns[key].dtype.kind != "U":
            continue
        labels = np.char.strip(columns[key])
        labels = np.where(np.isin(labels, ("", "nan")), UNSORTED, labels)
        if (labels != UNSORTED).any():
            return labels
    return None
