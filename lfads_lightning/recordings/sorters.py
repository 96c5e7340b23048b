"""Common parts of the readers of sorters' folders: sampling rate and quality of units."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from lfads_lightning.recordings import names

UNSORTED = "unsorted"  # Phy's word for units without a label


def warn_of_rate(stated: float | None, given: float, where: str) -> None:
    """Warn if the option ``sampling_rate_hz`` differs from the rate stated in the folder, if any.

    Args:
        stated: samples per second stated in the folder.
        given: samples per second given by the option, which is used.
        where: the file that states the rate, and its name there.
    """
    if stated is not None and abs(stated - given) > 1e-6 * given:
        warnings.warn(
            f"{where} of {stated:.9g}; sampling_rate_hz={given:.9g} is used", stacklevel=4
        )


def quality(columns: Mapping[str, np.ndarray], keys: Sequence[str]) -> np.ndarray | None:
    """Return the labels of the units from the first of these columns that has any.

    Args:
        columns: (D,) each, properties of the units.
        keys: names of columns in lower case; those decided by a person come first.
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
