"""The files that the four non-train kinds write into a run's folder."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from lfads_lightning.config import Config, Kind, SessionSpec
from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.inference.posterior import Posterior, Prior, push_mean, sample_and_average
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.params import to_dict
from lfads_lightning.runs.files import whole_hdf5
from lfads_lightning.runs.run import Run

BINS = "bins are consecutive and equally wide, as in the input file; entry t of an array is bin t"
_SPREAD = {
    Kind.posterior_sample_and_average: "over posterior samples",
    Kind.posterior_push_mean: "of its posterior, its means driving the generator",
}
UNITS = {
    "gen_ics": "generator state before bin 0",
    "gen_states": "generator units, after each bin",
    "factors": "arbitrary",
    "controller_outputs": "inferred inputs, arbitrary",
    "prior_zs_ar_con": "inferred inputs, arbitrary",
    "costs": "nats per trial",
    "nll_bound_vaes": "nats per trial",
    "nll_bound_iwaes": "nats per trial; NaN where not defined",
    "nll_bound_iwaes_true": "nats per trial; NaN where not defined",
    "train_steps": "optimiser updates",
}
MEANINGS = {
    "trial_ids": "number of the trial in the recording, counted from 0 (<split>_inds of the data)",
    "condition": "label of the trial; negative or empty: none",
    "trial_starts_s": "start of bin 0, in seconds on the clock of the recording",
    "neuron_ids": "names of the neurons, in the order of the rates",
    "lengths": "number of bins of the trial; arrays are NaN after its end",
    "bin_width_s": "seconds",
}


def write_posteriors(
    trained: TrainedModel, sessions: list[Session], config: Config, folder: Path
) -> list[Path]:
    """Run a posterior kind on every split of every session; write one file for each.

    Args:
        trained: the model.
        sessions: data that fit the model.
        config: parameters of this call; the kind and the groups sampling and output are used.
        folder: receives the files.
    """
    paths = []
    for session in trained.fitting(sessions):
        for split_name, split in session.splits.items():
            posterior, samples = _posterior(trained, session, split, config)
            stem, kind = config.output.output_filename_stem, config.kind.name
            path = Run(folder).results(stem, session.name, split_name, kind)
            attributes = {"session": session.name, "split": split_name, "num_samples": samples}
            attributes |= predicted_only(trained.sessions[session.name])
            labels = labels_of(session, split, len(posterior.costs))
            paths.append(_write(path, posterior, trained, config, attributes, labels))
    return paths


def labels_of(session: Session, split: Split, n: int) -> dict[str, np.ndarray]:
    """Return the labels of a session's first n trials and its neurons, in types that MATLAB has.

    Args:
        session: the session.
        split: one of its splits.
        n: number of trials.
    """
    starts = split.event_times_s
    if starts is not None and session.window_s is not None:
        starts = starts + session.window_s[0]
    labels = {
        "trial_ids": split.inds,
        "condition": split.condition,
        "trial_starts_s": starts,
        "lengths": split.lengths,
    }
    found = {name: array[:n] for name, array in labels.items() if array is not None}
    if session.neuron_ids is not None:
        found["neuron_ids"] = session.neuron_ids
    if session.bin_width_s is not None:
        found["bin_width_s"] = np.array(session.bin_width_s)
    return found


def predicted_only(spec: SessionSpec) -> dict[str, Any]:
    """Return the held-out channels and the number of forward bins, if there are any."""
    said = {"held_out_neurons": list(spec.held_out), "forward_steps": spec.forward_steps}
    return {name: value for name, value in said.items() if value}


def _posterior(
    trained: TrainedModel, session: Session, split: Split, config: Config
) -> tuple[Posterior, int]:
    n = min(config.sampling.ps_nexamples_to_process, len(split.data))
    trials = split.rows(slice(n))
    run = trained.evaluation()
    if config.kind is Kind.posterior_push_mean:
        return push_mean(run, session.name, trials), 0
    samples = config.sampling.num_posterior_samples or config.data.batch_size
    return sample_and_average(run, session.name, trials, samples), samples


def write_prior(
    trained: TrainedModel, sessions: list[Session], config: Config, folder: Path
) -> Path:
    """Draw trials from the prior and write them.

    Args:
        trained: the model.
        sessions: data whose external inputs drive the generator, if the model injects them: those
            of the training trials, in file order, repeated as often as needed.
        config: parameters of this call.
        folder: receives the file.
    """
    n = config.sampling.num_prior_samples or config.data.batch_size
    name = config.sampling.session or min(trained.sessions)
    ext = None
    if trained.config.model.inject_ext_input_to_gen:
        inputs = {s.name: s.train.ext_input for s in trained.fitting(sessions)}.get(name)
        ext = None if inputs is None else inputs[np.arange(n) % len(inputs)]
    prior = trained.prior_sample(n, name, ext)
    path = Run(folder).results(config.output.output_filename_stem, config.kind.name)
    return _write(path, prior, trained, config, {"session": name, "num_samples": n})


def write_model_params(
    trained: TrainedModel, config: Config, folder: Path, moments: dict[str, np.ndarray]
) -> Path:
    """Write all weights under the original's variable names, with ``/`` as ``_``.

    Args:
        trained: the model.
        config: parameters of this call.
        folder: receives the file.
        moments: the optimiser's moments, by dataset name; empty for none.
    """
    path = Run(folder).weights(config.output.output_filename_stem)
    arrays: dict[str, Any] = {n.replace("/", "_"): a for n, a in trained.model_params().items()}
    arrays |= moments | {"LFADS_global_step:0": np.int64(trained.step)}
    with whole_hdf5(path) as file:
        for name, array in arrays.items():
            file[name] = array
        _describe(file, trained, config, {"layout": "weights are (in, out), y = x W + b"})
    return path


def _write(
    path: Path,
    result: Posterior | Prior,
    trained: TrainedModel,
    config: Config,
    attributes: dict[str, Any],
    labels: Mapping[str, np.ndarray] | None = None,
) -> Path:
    labels = labels or {}
    with whole_hdf5(path) as file:
        for name, array in result._asdict().items():
            if array is None or name == "rates":  # rates are in output_dist_params
                continue
            dataset = file.create_dataset(name, data=array, compression="gzip")
            of = name.removesuffix("_sd")
            units = trained.model.noise_model.units if of == "output_dist_params" else UNITS.get(of)
            dataset.attrs["units"] = units or "initial-condition code, arbitrary"
            if name != of:
                dataset.attrs["meaning"] = f"standard deviation of {of} {_SPREAD[config.kind]}"
            are_rates = of == "output_dist_params" and trained.model.noise_model.params_are_rates
            if are_rates and "bin_width_s" in labels:
                dataset.attrs["to_hz"] = 1 / labels["bin_width_s"]
        for name, array in labels.items():
            file[name] = _plain(array)
            file[name].attrs["meaning"] = MEANINGS[name]
        _describe(file, trained, config, attributes)
    return path


def _plain(array: np.ndarray) -> np.ndarray:
    """Return strings at a fixed length, which every HDF5 reader supports."""
    if array.dtype.kind != "U":
        return array
    encoded = np.char.encode(array, "utf-8")
    return encoded.astype(h5py.string_dtype("utf-8", max(encoded.dtype.itemsize, 1)))


def _describe(
    file: h5py.File, trained: TrainedModel, config: Config, attributes: dict[str, Any]
) -> None:
    file.attrs.update(attributes)
    file.attrs["kind"] = config.kind.name
    file.attrs["bins"] = BINS
    file.attrs["config"] = yaml.safe_dump(to_dict(config), sort_keys=False)
    file.attrs["train_step"] = trained.step
    file.attrs["checkpoint"] = config.output.checkpoint_pb_load_name
    file.attrs["version"] = version("lfads-lightning")
