"""Results as labelled arrays and tables: xarray and pandas (needs the extra [frames])."""

from importlib import import_module
from typing import Any

import numpy as np

from lfads_lightning.config import LFADSError

# the axes after that of the trials
_AXES = {
    "rates": ("bin", "neuron"),
    "output_dist_params": ("bin", "parameter"),
    "factors": ("bin", "factor"),
    "gen_states": ("bin", "generator_unit"),
    "gen_ics": ("generator_unit",),
    "controller_outputs": ("bin", "input"),
    "prior_zs_ar_con": ("bin", "input"),
    "post_g0_mean": ("code",),
    "post_g0_logvar": ("code",),
    "prior_g0_mean": ("code",),
    "prior_g0_logvar": ("code",),
}


def to_xarray(
    result: Any,
    *,
    bin_width_s: float | None = None,
    neuron_ids: Any = None,
    trial_ids: Any = None,
) -> Any:
    """Return a result as an ``xarray.Dataset``: one variable for each array, named axes.

    Args:
        result: a Posterior or a Prior.
        bin_width_s: adds the coordinate ``time_s``, where each bin begins, and ``rates_hz``.
        neuron_ids: (D,) labels of the neurons; counted from 0 by default.
        trial_ids: (E,) labels of the trials; counted from 0 by default.

    Raises:
        LFADSError: xarray is not installed, or labels do not fit.
    """
    xarray = _imported("xarray")
    arrays = {k: a for k, a in result._asdict().items() if a is not None}
    variables = {name: (("trial", *_axes(name)), array) for name, array in arrays.items()}
    n_trials, n_bins, n_neurons = result.rates.shape
    coordinates = {
        "trial": _labels("trial_ids", trial_ids, n_trials),
        "neuron": _labels("neuron_ids", neuron_ids, n_neurons),
        "bin": np.arange(n_bins),
    }
    made = xarray.Dataset(variables, coordinates)
    made["rates"].attrs["units"] = "expected counts per bin"
    if bin_width_s is not None:
        made = made.assign_coords(time_s=("bin", bin_width_s * np.arange(n_bins)))
        made["rates_hz"] = made["rates"] / bin_width_s
        made["rates_hz"].attrs["units"] = "Hz"
    return made


def to_pandas(
    result: Any,
    name: str = "rates",
    *,
    bin_width_s: float | None = None,
    neuron_ids: Any = None,
    trial_ids: Any = None,
) -> Any:
    """Return one array of a result as a ``pandas.DataFrame``.

    Args:
        result: a Posterior or a Prior.
        name: of the array; ``rates`` has a row for each trial and bin and a column for each neuron.
        bin_width_s: adds the time of each bin to the rows' index, in seconds.
        neuron_ids: (D,) labels of the neurons; counted from 0 by default.
        trial_ids: (E,) labels of the trials; counted from 0 by default.

    Raises:
        LFADSError: pandas is not installed, no such array, or labels do not fit.
    """
    pandas = _imported("pandas")
    arrays = {k: a for k, a in result._asdict().items() if a is not None}
    if name not in arrays:
        raise LFADSError(f"to_pandas: the result has no {name!r}; expected {', '.join(arrays)}")
    array = arrays[name]
    trials = _labels("trial_ids", trial_ids, len(array))
    axes = _axes(name)
    if "bin" not in axes:
        columns = pandas.RangeIndex(array.shape[1], name=axes[0]) if axes else [name]
        index = pandas.Index(trials, name="trial")
        return pandas.DataFrame(array.reshape(len(array), -1), index, columns)
    n_bins, n = array.shape[1:]
    levels = {"trial": np.repeat(trials, n_bins), "bin": np.tile(np.arange(n_bins), len(array))}
    if bin_width_s is not None:
        levels["time_s"] = bin_width_s * levels["bin"]
    labels = _labels("neuron_ids", neuron_ids, n) if axes[1] == "neuron" else np.arange(n)
    index = pandas.MultiIndex.from_arrays(list(levels.values()), names=list(levels))
    return pandas.DataFrame(array.reshape(-1, n), index, pandas.Index(labels, name=axes[1]))


def _axes(name: str) -> tuple[str, ...]:
    return _AXES.get(name.removesuffix("_sd"), ())


def _labels(what: str, labels: Any, n: int) -> np.ndarray:
    made = np.arange(n) if labels is None else np.asarray(labels)
    if made.shape != (n,):
        raise LFADSError(f"{what} has shape {made.shape}; expected ({n},)")
    return made


def _imported(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise LFADSError(f'this needs {package}; pip install "lfads-lightning[frames]"') from error
