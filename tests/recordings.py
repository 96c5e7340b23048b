"""A small made-up recording, written in every format that is read."""

from itertools import count

import h5py
import numpy as np

from lfads_lightning.config import LFADSError

N_UNITS, N_TRIALS, WIDTH = 6, 24, 0.02
UNIT_IDS = [3, 5, 8, 13, 21, 34]


def refused_when_damaged(files, n, read):
    """Damage some of the first bytes of files, one file at a time, and read them.

    Returns the messages with which the files were refused; other exceptions than ours are raised.
    """
    rng, refused = np.random.default_rng(1), []
    for k in range(n):
        path = files[k % len(files)]
        whole = path.read_bytes()
        content = bytearray(whole)
        for _ in range(1 + k % 5):
            content[rng.integers(0, min(len(content), 160))] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            read()
        except LFADSError as error:
            refused.append(str(error))
        path.write_bytes(whole)
    return refused


class Recording:
    """Spike times on one clock, trials of 1 s with a go cue, two behaviours sampled at 500 Hz."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.end = 3.0 + 1.5 * N_TRIALS
        self.start = 2.0 + 1.5 * np.arange(N_TRIALS)
        self.stop = self.start + 1.0
        self.go = self.start + rng.uniform(0.25, 0.35, N_TRIALS).round(4)
        self.condition = np.array(["left", "up", "right"])[np.arange(N_TRIALS) % 3]
        self.times = [
            # a fraction of a microsecond away from bin edges, so that NumPy counts the same
            np.sort(rng.uniform(0, self.end, rng.poisson(20 * self.end)).round(5)) + 3e-6
            for _ in range(N_UNITS)
        ]
        self.samples = np.arange(0, self.end, 0.002)
        self.velocity = np.stack([np.sin(self.samples), np.cos(3 * self.samples)], axis=1)

    def histogram(self, first, n_bins, event=None):
        """Count the spikes in a second way, (E, T, D)."""
        event = self.go if event is None else event
        edges = np.arange(n_bins + 1) * WIDTH
        return np.stack(
            [
                np.stack([np.histogram(t - (e + first), edges)[0] for t in self.times], axis=1)
                for e in event
            ]
        )

    def rows(self):
        """Return times and unit of each spike, shuffled."""
        units = np.repeat(UNIT_IDS, [len(t) for t in self.times])
        order = np.random.default_rng(1).permutation(len(units))
        return np.concatenate(self.times)[order], units[order]


REC = Recording()


def npz(path, **more):
    times, units = REC.rows()
    np.savez(
        path,
        **{
            "spike_times": times,
            "spike_units": units,
            "trial_start": REC.start,
            "trial_stop": REC.stop,
            "go_cue_time": REC.go,
            "condition": REC.condition,
            "hand_vel": REC.velocity,
            "hand_vel_times": REC.samples,
        }
        | more,
    )
    return path


def write_nwb(path, recording, **extra):
    """Write with pynwb; ``extra``: held_out, obs_intervals, invalid, conditions."""
    from datetime import datetime, timezone

    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    nwb = NWBFile(
        session_description="made up",
        identifier="id",
        session_start_time=datetime(2020, 1, 1, tzinfo=timezone.utc),
    )
    if "held_out" in extra:
        nwb.add_unit_column(name="heldout", description="kept from the encoders")
    nwb.add_unit_column(name="quality", description="a text")
    for k, times in enumerate(recording.times):
        more = {"heldout": extra["held_out"][k]} if "held_out" in extra else {}
        if "obs_intervals" in extra:
            more["obs_intervals"] = extra["obs_intervals"][k]
        nwb.add_unit(spike_times=times, id=UNIT_IDS[k], quality="good", **more)
    nwb.add_trial_column(name="go_cue_time", description="when the cue came")
    nwb.add_trial_column(name="condition", description="where to")
    for start, stop, go, condition in zip(
        recording.start, recording.stop, recording.go, recording.condition, strict=True
    ):
        nwb.add_trial(start_time=start, stop_time=stop, go_cue_time=go, condition=str(condition))
    for start, stop in extra.get("invalid", []):
        nwb.add_invalid_time_interval(start_time=start, stop_time=stop)
    module = nwb.create_processing_module(name="behavior", description="hand")
    sampled = {"data": 100 * recording.velocity, "timestamps": recording.samples}
    module.add(TimeSeries(name="hand_vel", unit="m/s", conversion=0.01, **sampled))
    module.add(TimeSeries(name="speed", data=recording.velocity[:, 0], unit="m/s", rate=500.0,
                          starting_time=0.0))  # fmt: skip
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path


def write_mat73(path, variables):
    """Write like MATLAB with -v7.3: reversed axes, MATLAB classes, cells as references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            _put(file, name, value)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    return path


NUMBERS = count()  # numbers of the targets of cells


def _put(group, name, value):
    if isinstance(value, dict):
        inner = group.create_group(name)
        inner.attrs["MATLAB_class"] = np.bytes_("struct")
        for key, each in value.items():
            _put(inner, key, each)
        return
    if isinstance(value, str):
        data, kind = np.array([[ord(c)] for c in value], np.uint16), "char"
    elif isinstance(value, np.ndarray) and value.dtype == object:
        refs = group.file.require_group("#refs#")
        made = []
        for item in value.T.ravel():
            key = f"r{next(NUMBERS)}"
            _put(refs, key, item)
            made.append(refs[key].ref)
        data = np.array(made, h5py.ref_dtype).reshape(value.T.shape)
        group.create_dataset(name, data=data, dtype=h5py.ref_dtype)
        group[name].attrs["MATLAB_class"] = np.bytes_("cell")
        return
    else:
        data, kind = np.atleast_2d(value).T, "double"
    group[name] = data
    group[name].attrs["MATLAB_class"] = np.bytes_(kind)
