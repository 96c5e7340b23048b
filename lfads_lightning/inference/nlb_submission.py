"""A run's rates as a submission to the Neural Latents Benchmark (Pei et al. 2021): one HDF5 file.

It has a group for each data set, with the rates in spikes per bin for training and evaluation
trials (``train``, ``eval``) and for held-in and held-out neurons::

    {train,eval}_rates_{heldin,heldout}           (trials, encoded bins, neurons)
    {train,eval}_rates_{heldin,heldout}_forward   (trials, forward bins, neurons)
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from lfads_lightning.commands import listed, to_train
from lfads_lightning.config import MAX_INT, LFADSError
from lfads_lightning.inference.nwb import RunFile
from lfads_lightning.model.observations import from_name
from lfads_lightning.recordings.nlb import DATA_SETS, SUFFIXES
from lfads_lightning.runs.files import whole_hdf5

_SPLITS = {"train": "train", "valid": "eval"}


def write_submission(path: Path, files: list[RunFile], source: Path) -> None:
    """Write the rates of all sessions that are named like data sets of the benchmark.

    Args:
        path: the file; written whole or not at all.
        files: results of a run, of posterior kinds and others.
        source: where the results lie, for messages.

    Raises:
        LFADSError: there is no such session, or its results do not fit the benchmark.
    """
    groups = {}
    for name in DATA_SETS:
        parts: dict[str, dict[str, RunFile]] = {}
        for file in files:
            said = file.attributes
            if said.get("session") == name and said.get("split") in _SPLITS:
                parts.setdefault(said["kind"], {})[said["split"]] = file
        if parts:
            # averages over samples are better estimates than rates at the posterior means
            kind = max(parts, key="posterior_sample_and_average".__eq__)
            group, rates = _of_data_set(name, parts[kind], source)
            groups[group] = rates
    if not groups:
        found = {str(f.attributes.get("session")) for f in files}
        raise LFADSError(
            f"{source}: holds results of {listed(sorted(found))}; expected sessions named like the "
            f"benchmark's data sets ({', '.join(DATA_SETS)}), as lfads prepare --nlb writes them"
        )
    with whole_hdf5(path) as out:
        for group, rates in groups.items():
            for name, array in rates.items():
                out.create_dataset(f"{group}/{name}", data=array, compression="gzip")


def _of_data_set(
    name: str, parts: Mapping[str, RunFile], source: Path
) -> tuple[str, dict[str, np.ndarray]]:
    """Return the name of a data set's group and its arrays."""
    if missing := sorted(set(_SPLITS) - set(parts)):
        raise LFADSError(
            f"{source}: has no results of the {missing[0]} split of {name}; expected both splits; "
            f"{to_train('kind=posterior_sample_and_average')} with the run's folder writes them"
        )
    arrays: dict[str, np.ndarray] = {}
    width = None
    for split, ours in _SPLITS.items():
        file = parts[split]
        width = float(file.arrays.get("bin_width_s", np.nan))
        rates, held_out, n_forward = _rates(file)
        held_in = np.setdiff1d(np.arange(rates.shape[2]), held_out)
        n_bins = rates.shape[1] - n_forward
        for neurons, channels in (("heldin", held_in), ("heldout", held_out)):
            arrays[f"{ours}_rates_{neurons}"] = rates[:, :n_bins, channels]
            if n_forward:
                arrays[f"{ours}_rates_{neurons}_forward"] = rates[:, n_bins:, channels]
    suffix = next((s for w, s in SUFFIXES.items() if width and abs(w - width) < 1e-9), None)
    if suffix is None:
        raise LFADSError(
            f"{parts['train'].path}: has bins of {width or math.nan:g} s; the benchmark takes "
            f"{' and '.join(f'{w:g}' for w in SUFFIXES)} s; prepare the data with --nlb {name}"
        )
    return name + suffix, arrays


def _rates(file: RunFile) -> tuple[np.ndarray, np.ndarray, int]:
    """Return rates (E, T, D) in spikes per bin, the held-out channels and the forward bins."""
    config = _config(file)
    noise = from_name(str(config.get("model", {}).get("output_dist")))
    if not noise.is_counts:
        _refuse(file, "is a model of real values", "rates of counts; set model.output_dist=poisson")
    params = file.arrays.get("output_dist_params", np.zeros(0))
    if params.ndim != 3 or params.dtype.kind != "f" or params.shape[2] % len(noise.parameters):
        _refuse(file, f"has output_dist_params of shape {params.shape}", "trials × bins × values")
    rates = params[:, :, : params.shape[2] // len(noise.parameters)]
    if not np.isfinite(rates).all() or "lengths" in file.arrays:
        _refuse(file, "has trials of unequal length", "windows of one length; prepare with --nlb")
    most = config.get("sampling", {}).get("ps_nexamples_to_process", MAX_INT)
    if len(rates) == most:
        _refuse(
            file,
            f"has only the first {most} trials (sampling.ps_nexamples_to_process)",
            "all trials of the split; leave this parameter out and run the kind again",
        )
    held_out = np.atleast_1d(file.attributes.get("held_out_neurons", ()))
    if not 0 < len(held_out) < rates.shape[2]:
        _refuse(
            file,
            "does not say which neurons were held out",
            "results of a model with held-out neurons; train on what lfads prepare --nlb writes",
        )
    n_forward = file.attributes.get("forward_steps", 0)
    if (
        held_out.dtype.kind not in "iu"
        or not set(held_out.tolist()) < set(range(rates.shape[2]))
        or not isinstance(n_forward, int)
        or not 0 <= n_forward < rates.shape[1]
    ):
        _refuse(
            file,
            f"has held-out neurons {listed(held_out.tolist())} and {n_forward} forward bins",
            f"some of its {rates.shape[2]} neurons and {rates.shape[1]} bins; run the kind again",
        )
    return rates, held_out, n_forward


def _config(file: RunFile) -> dict[str, Any]:
    try:
        config = yaml.safe_load(str(file.attributes.get("config")))
    except (yaml.YAMLError, RecursionError):
        config = None
    groups = ("model", "sampling")
    if not isinstance(config, dict) or not all(isinstance(config.get(g), dict) for g in groups):
        _refuse(file, "has no config", "a run's results; run the kind again")
    return config


def _refuse(file: RunFile, found: str, expected: str) -> NoReturn:
    raise LFADSError(f"{file.path}: {found}; expected {expected}")
