"""Results as labelled arrays and tables: xarray and pandas (needs the extra [frames])."""

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.notebook.cards import card, folded, grid, lines, sizes


class About(NamedTuple):
    """Description of an array in a result.

    Attributes:
        axes: names of its axes after the trials.
        units: units of its values.
        meaning: its meaning in a few words.
    """

    axes: tuple[str, ...]
    units: str
    meaning: str


ABOUT = {
    "rates": About(("bin", "neuron"), "expected counts per bin", "mean of the output distribution"),
    "output_dist_params": About(
        ("bin", "parameter"), "depend on the noise model", "parameters of the noise model"
    ),
    "factors": About(("bin", "factor"), "1", "factors"),
    "gen_states": About(("bin", "generator_unit"), "1", "states of the generator"),
    "gen_ics": About(("generator_unit",), "1", "state of the generator before the first bin"),
    "controller_outputs": About(("bin", "input"), "1", "inferred inputs"),
    "prior_zs_ar_con": About(("bin", "input"), "1", "inputs drawn from the AR(1) prior"),
    "post_g0_mean": About(("code",), "1", "initial-condition code, posterior mean"),
    "post_g0_logvar": About(("code",), "1", "its log-variance"),
    "prior_g0_mean": About(("code",), "1", "initial-condition code, prior mean"),
    "prior_g0_logvar": About(("code",), "1", "its log-variance"),
    "costs": About((), "nats", "the training loss"),
    "nll_bound_vaes": About((), "nats", "reconstruction and KL, without ramps and L2"),
    "nll_bound_iwaes": About((), "nats", "the original's importance-weighted bound"),
    "nll_bound_iwaes_true": About((), "nats", "importance-weighted bound, Burda et al. 2016"),
    "train_steps": About((), "updates", "number of updates of the weights"),
}


def about(name: str) -> About:
    """Describe an array of a result; standard deviations have the axes of their mean."""
    mean = name.removesuffix("_sd")
    found = ABOUT.get(mean, About((), "", name))
    if mean == name:
        return found
    return found._replace(meaning=f"{found.meaning}: standard deviation over posterior samples")


def to_xarray(
    result: Any,
    *,
    bin_width_s: float | None = None,
    neuron_ids: Any = None,
    trial_ids: Any = None,
) -> Any:
    """Return a result as an ``xarray.Dataset``: a variable for each array, with axes and units.

    Args:
        result: a Posterior or a Prior.
        bin_width_s: if given, adds the coordinate ``time_s``, the start of each bin, and
            ``rates_hz``.
        neuron_ids: (D,) labels of the neurons; counted from 0 by default.
        trial_ids: (E,) labels of the trials; counted from 0 by default.

    Raises:
        LFADSError: xarray is not installed, or labels do not fit.
    """
    xarray = _imported("xarray")
    arrays = {k: a for k, a in result._asdict().items() if a is not None}
    variables = {name: (("trial", *about(name).axes), array) for name, array in arrays.items()}
    n_trials, n_bins, n_neurons = result.rates.shape
    coordinates = {
        "trial": _labels("trial_ids", trial_ids, n_trials),
        "neuron": _labels("neuron_ids", neuron_ids, n_neurons),
        "bin": np.arange(n_bins),
    }
    made = xarray.Dataset(variables, coordinates)
    for name in arrays:
        told = about(name)
        made[name].attrs |= {"units": told.units, "long_name": told.meaning}
    if bin_width_s is not None:
        made = made.assign_coords(time_s=("bin", bin_width_s * np.arange(n_bins)))
        made["time_s"].attrs |= {"units": "s", "long_name": "start of the bin"}
        made["rates_hz"] = made["rates"] / bin_width_s
        made["rates_hz"].attrs |= {"units": "Hz", "long_name": "firing rate"}
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
        name: name of the array; ``rates`` has a row per trial and bin, and a column per neuron.
        bin_width_s: if given, adds the time of each bin to the index of the rows, in seconds.
        neuron_ids: (D,) labels of the neurons; counted from 0 by default.
        trial_ids: (E,) labels of the trials; counted from 0 by default.

    Raises:
        LFADSError: pandas is not installed, there is no such array, or labels do not fit.
    """
    pandas = _imported("pandas")
    arrays = {k: a for k, a in result._asdict().items() if a is not None}
    if name not in arrays:
        raise LFADSError(f"to_pandas: the result has no {name!r}; expected {', '.join(arrays)}")
    array = arrays[name]
    trials = _labels("trial_ids", trial_ids, len(array))
    axes = about(name).axes
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


def in_short(result: Any) -> str:
    """Return the sizes of a result, for its repr."""
    n_trials, n_bins, n_neurons = result.rates.shape
    inputs = getattr(result, "controller_outputs", getattr(result, "prior_zs_ar_con", None))
    parts = sizes(
        (n_neurons, "neuron"),
        (result.factors.shape[2], "factor"),
        (0 if inputs is None else inputs.shape[2], "inferred input"),
    )
    return f"{type(result).__name__}({n_trials} trials × {n_bins} bins: {parts})"


def as_html(result: Any) -> str:
    """Return a result as HTML for notebooks: its arrays, and the mean of the largest factors."""
    rows = []
    for name, array in result._asdict().items():
        if array is not None:
            told = about(name)
            shape = " × ".join(
                f"{n} {axis.replace('_', ' ')}s"
                for n, axis in zip(array.shape, ("trial", *told.axes), strict=False)
            )
            rows.append((name, shape, "" if told.units == "1" else told.units, told.meaning))
    mean = result.factors.mean(0)
    lively = mean[:, np.argsort(-mean.std(0), kind="stable")[:6]]
    lively = lively - lively.mean(0)
    return card(
        in_short(result),
        lines(lively.T, "the factors of largest variance, mean over trials"),
        folded("arrays", grid(("name", "shape", "unit", "meaning"), rows)),
    )
