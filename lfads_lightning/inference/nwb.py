"""A run's results as a processing module of an NWB file (needs the extra [nwb])."""

import uuid
import warnings
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.readers.nwb import check_nwb
from lfads_lightning.runs.documents import read_document
from lfads_lightning.runs.files import whole_hdf5

MODULE = "lfads"
MERGED = "merged"  # "split" of the files that lfads merge writes
_PER_BIN = ("output_dist_params", "factors", "gen_states", "controller_outputs")


class RunFile(NamedTuple):
    """A results file, written by a kind."""

    path: Path
    arrays: dict[str, np.ndarray]
    about: dict[str, dict[str, Any]]  # units, meaning, to_hz of each array
    attributes: dict[str, Any]  # attributes of the file: session, split, kind, config, ...


class Trials(NamedTuple):
    """The trials of all splits in order of time, or one merged recording."""

    starts_s: np.ndarray  # (n,); merged: none
    bins_s: np.ndarray  # (rows,), start of each bin
    split: np.ndarray  # (n,)
    bin_width_s: float
    arrays: dict[str, np.ndarray]  # one row per trial; merged: one per bin
    clock: str  # description of the clock of the times


def write_nwb(
    path: Path, parts: list[RunFile], base: Path | None, session_start_time: datetime | None
) -> None:
    """Write the splits of one session as the processing module ``lfads``.

    Args:
        path: the file; written whole or not at all.
        parts: files of one session and kind.
        base: NWB file to copy and add to; None for a new one.
        session_start_time: start of the recording, for a new file.

    Raises:
        LFADSError: pynwb is not installed, the results hold no times, or ``base`` already has
            such a module.
    """
    try:
        from pynwb import NWBHDF5IO, NWBFile
    except ImportError as error:
        raise LFADSError(
            f'{path}: writing NWB needs pynwb; pip install "lfads-lightning[nwb]"'
        ) from error
    trials = _joined(parts, base)
    attributes = parts[0].attributes
    with whole_hdf5(path) as unfinished, ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about old versions of the format
        if base is None:
            unknown = session_start_time is None
            file = NWBFile(
                session_description=f"LFADS results of session {attributes['session']}"
                + ("; the date of recording is unknown, 1970 stands for it" if unknown else ""),
                identifier=str(uuid.uuid4()),
                session_start_time=session_start_time or datetime.fromtimestamp(0, timezone.utc),
            )
            _add_module(file, trials, parts[0])
            with NWBHDF5IO(unfinished.filename, "w", file=unfinished) as io:
                io.write(file)
            return
        source = stack.enter_context(_opened(base, NWBHDF5IO))
        file = source.read()
        if MODULE in file.processing:
            raise LFADSError(
                f"{base}: already has a processing module '{MODULE}'; give the recording itself"
            )
        _add_module(file, trials, parts[0])
        file.set_modified()
        with NWBHDF5IO(unfinished.filename, "w", file=unfinished) as io:
            io.export(src_io=source, nwbfile=file)


def _opened(base: Path, reader: Any) -> Any:
    if not base.is_file():
        raise LFADSError(f"{base}: no such file; nwb is the recording that the model was run on")
    check_nwb(base)  # it may come from somebody else
    try:
        return reader(str(base), "r")
    except (OSError, TypeError, ValueError) as error:
        raise LFADSError(f"{base}: is not an NWB file ({' '.join(str(error).split())})") from error


def _joined(parts: list[RunFile], base: Path | None) -> Trials:
    """Put the trials of all splits in order of time."""
    first = parts[0]
    if "bin_width_s" not in first.arrays:
        raise LFADSError(
            f"{first.path}: holds no bin_width_s, but NWB needs times in seconds; put bin_width_s "
            "into the session file (or fit(bin_width_s=...)) and run the kind again"
        )
    width, n_bins = float(first.arrays["bin_width_s"]), first.arrays["factors"].shape[1]
    if first.attributes["split"] == MERGED:
        return _continuous(first, base, width)
    arrays = {
        name: np.concatenate([p.arrays[name] for p in parts])
        for name in first.arrays
        if name not in ("neuron_ids", "bin_width_s") and all(name in p.arrays for p in parts)
    }
    n_trials = [len(p.arrays["factors"]) for p in parts]
    split = np.repeat([p.attributes["split"] for p in parts], n_trials)
    if "trial_starts_s" in arrays:
        starts, clock = arrays.pop("trial_starts_s"), "the recording's clock"
    elif base is not None:
        raise LFADSError(
            f"{first.path}: does not say when its trials begin, so its place in {base} is not "
            "known; session files need train_event_times_s and window_s (lfads prepare writes "
            "them); without nwb, a file of its own lays the trials end to end"
        )
    else:
        number = arrays.get("trial_ids", np.arange(len(split)))
        starts, clock = number * n_bins * width, "trials laid end to end by their number"
    order = np.argsort(starts, kind="stable")
    ordered = {name: array[order] for name, array in arrays.items()}
    bins = (starts[order][:, None] + width * np.arange(n_bins)).ravel()
    if (np.diff(bins) <= 0).any():
        warnings.warn(
            f"{first.path}: trials overlap, so times in the series are not increasing; for results "
            "of chops, run lfads merge first",
            stacklevel=2,
        )
    return Trials(starts[order], bins, split[order], width, ordered, clock)


def _continuous(merged: RunFile, base: Path | None, width: float) -> Trials:
    """Place the pieces that lfads merge has put together on the recording's clock."""
    arrays = {name: a for name, a in merged.arrays.items() if name.removesuffix("_sd") in _PER_BIN}
    begins = merged.arrays["segment_starts"]
    begins_s, clock = merged.arrays.get("segment_starts_s"), "the recording's clock"
    if begins_s is None:
        if base is not None:
            raise LFADSError(
                f"{merged.path}: does not say when its pieces begin (segment_starts_s), so its "
                f"place in {base} is not known; leave nwb out for a file of its own"
            )
        begins_s, clock = begins * width, "the recording's pieces laid end to end"
    within = np.arange(len(arrays["factors"]))
    piece = np.searchsorted(begins, within, side="right") - 1
    bins = begins_s[piece] + width * (within - begins[piece])
    return Trials(np.zeros(0), bins, np.zeros(0, str), width, arrays, clock)


def _add_module(file: Any, trials: Trials, first: RunFile) -> None:
    from hdmf.backends.hdf5 import H5DataIO
    from pynwb import TimeSeries

    said = first.attributes
    module = file.create_processing_module(
        MODULE,
        f"LFADS (lfads-lightning {said['version']}), session {said['session']}, {said['kind']}, "
        f"{said['checkpoint']} after {said['train_step']} updates; times: {trials.clock}",
    )
    timestamps: Any = trials.bins_s
    for name, array in trials.arrays.items():
        of = name.removesuffix("_sd")
        if of not in _PER_BIN:
            continue
        about = first.about[name]
        to_hz = about.get("to_hz", 1.0)
        series = TimeSeries(
            name=name.replace("output_dist_params", "rates"),
            data=H5DataIO(array.reshape(-1, array.shape[-1]), compression="gzip"),
            unit="Hz" if "to_hz" in about else "n.a.",
            conversion=to_hz,
            timestamps=timestamps,
            description=f"{about.get('meaning', name)}: {about['units']}; one row per bin, "
            + ("times conversion: Hz; " if "to_hz" in about else "")
            + "timestamps are the starts of the bins",
        )
        module.add(series)
        if not isinstance(timestamps, TimeSeries):
            timestamps = series  # the other series share its times
    if len(trials.starts_s):
        duration_s = trials.bin_width_s * trials.arrays["factors"].shape[1]
        module.add(_trials_table(trials, duration_s, first))
    module.add(_neurons_table(trials, first))
    module.add(_parameters_table(said["config"]))


def _trials_table(trials: Trials, duration_s: float, first: RunFile) -> Any:
    from hdmf.common import VectorData
    from pynwb.epoch import TimeIntervals

    columns = [
        VectorData("start_time", f"seconds on {trials.clock}", data=trials.starts_s),
        VectorData("stop_time", "end of the last bin", data=trials.starts_s + duration_s),
        VectorData("split", "what the model used the trial for", data=trials.split.tolist()),
    ]
    for name, array in trials.arrays.items():
        if name.removesuffix("_sd") in _PER_BIN:
            continue
        about = first.about[name]
        text = about.get("meaning") or about.get("units", name)
        values = array.tolist() if array.dtype.kind == "U" else array
        columns.append(VectorData(name, text, data=values))
    return TimeIntervals(
        name="trials", description="the trials that the model was given", columns=columns
    )


def _neurons_table(trials: Trials, first: RunFile) -> Any:
    from hdmf.common import DynamicTable, VectorData

    ids = first.arrays.get("neuron_ids")
    if ids is None:
        n = trials.arrays["output_dist_params"].shape[-1]
        column = VectorData("channel", "columns of rates, counted from 0", data=np.arange(n))
    else:
        column = VectorData("neuron_id", "names of the columns of rates", data=ids.tolist())
    return DynamicTable(name="neurons", description="columns of rates", columns=[column])


def _parameters_table(config: str) -> Any:
    from hdmf.common import DynamicTable, VectorData

    flat: dict[str, str] = {}
    nested = read_document(config.encode(), "config of the results")
    for group, value in nested.items():
        pairs = value.items() if isinstance(value, dict) else [(None, value)]
        flat |= {group if name is None else f"{group}.{name}": str(v) for name, v in pairs}
    columns = [
        VectorData("parameter", "its name", data=list(flat)),
        VectorData("value", "its value", data=list(flat.values())),
    ]
    return DynamicTable(
        name="parameters", description="all parameters of the model", columns=columns
    )
