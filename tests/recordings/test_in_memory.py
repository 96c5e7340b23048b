"""Recordings as other libraries hold them in memory: by what they have, names of axes obeyed."""

from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from recordings import REC, WIDTH
from scipy.sparse import csr_matrix

import lfads_lightning as lfads
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import as_array

COUNTS = np.random.default_rng(0).poisson(np.linspace(0.5, 2, 9), (20, 30, 9))
WINDOW = {"bin_width_s": WIDTH, "window_s": (-0.2, 0.5), "align_to": "go"}


def made(recording, tmp_path, **options):
    session = lfads.read_session(lfads.prepare(recording, tmp_path, name="a", **options))
    order = np.argsort(np.concatenate([session.train.inds, session.valid.inds]))
    return np.concatenate([session.train.data, session.valid.data])[order], session


class TsGroup(UserDict):
    """What pynapple's class of this name has, and we look at."""

    def __init__(self, times):
        super().__init__({k: SimpleNamespace(t=t) for k, t in times.items()})
        self.time_support = SimpleNamespace(start=np.array([0.0]), end=np.array([REC.end]))
        self.metadata = pd.DataFrame({"region": ["M1", "V1"] * (len(times) // 2)}, index=[*times])


class IntervalSet:
    """The same, of intervals."""

    def __init__(self, table):
        self.metadata = table

    def __len__(self):
        return len(REC.start)

    def as_dataframe(self):
        return pd.DataFrame({"start": REC.start, "end": REC.stop})


def trials_of(kind):
    columns = {"go": REC.go, "condition": REC.condition}
    if kind == "intervals":
        table = pd.DataFrame(columns)
        return IntervalSet(table)
    columns = {"start": REC.start, "end": REC.stop} | columns
    return pd.DataFrame(columns) if kind == "frame" else columns


@pytest.mark.parametrize("kind", ["intervals", "frame", "mapping"])
def test_group_of_spike_times_with_trials(tmp_path, kind):
    group = TsGroup(dict(enumerate(REC.times, 4)))
    data, session = made(group, tmp_path, trials=trials_of(kind), **WINDOW)
    np.testing.assert_array_equal(data, REC.histogram(-0.2, 35))
    assert session.neuron_ids.tolist() == list(range(4, 10))
    assert set(session.train.condition.tolist()) == {"left", "up", "right"}
    chosen = {"units": "region == 'M1'", "where": "condition != 'up'"}
    data, session = made(group, tmp_path, trials=trials_of(kind), **chosen, **WINDOW)
    assert session.neuron_ids.tolist() == [4, 6, 8]
    assert len(data) == 16


def test_spike_trains_of_neo(tmp_path):
    neo = pytest.importorskip("neo", reason="needs the extra [neo]")
    trains = [neo.SpikeTrain(1000 * t, units="ms", t_stop=1000 * REC.end) for t in REC.times]
    segment = SimpleNamespace(spiketrains=trains)
    for recording in (trains, segment):
        data, _ = made(recording, tmp_path, trials=trials_of("frame"), **WINDOW)
        np.testing.assert_array_equal(data, REC.histogram(-0.2, 35))


@pytest.mark.parametrize("dims", ["trial time unit", "unit trial time", "time unit trial"])
def test_axes_by_name(tmp_path, dims):
    xarray = pytest.importorskip("xarray")
    coords = {"unit": np.arange(9) + 70, "side": ("trial", np.arange(20) % 2)}
    array = xarray.DataArray(COUNTS, dims=("trial", "time", "unit"), coords=coords)
    array = array.transpose(*dims.split())
    data, session = made(array, tmp_path, condition="side")
    np.testing.assert_array_equal(data, COUNTS)
    assert session.neuron_ids.tolist() == list(range(70, 79))
    np.testing.assert_array_equal(as_array("a", "train_data", array), COUNTS)
    data, _ = made(array.isel(trial=0), tmp_path, chop_bins=5)
    np.testing.assert_array_equal(data.reshape(30, 9), COUNTS[0])


def test_arrays_of_other_libraries(tmp_path):
    np.save(tmp_path / "a.npy", COUNTS)
    graph = torch.tensor(COUNTS, dtype=torch.float32, requires_grad=True)
    for recording in (
        COUNTS, list(COUNTS), torch.tensor(COUNTS), graph, [csr_matrix(trial) for trial in COUNTS],
        np.load(tmp_path / "a.npy", mmap_mode="r"), {"counts": graph},
    ):  # fmt: skip
        np.testing.assert_array_equal(made(recording, tmp_path)[0], COUNTS)
    flat = csr_matrix(COUNTS.reshape(600, 9))
    np.testing.assert_array_equal(made(flat, tmp_path, chop_bins=30)[0], COUNTS)


@pytest.mark.parametrize(
    ("recording", "options", "said"),
    [
        (3, {}, "is a int; expected a path, an array, .* an NWBFile"),
        (COUNTS, {"trials": 7}, "trials is a int; expected a path, an IntervalSet"),
        (COUNTS, {"trials": {"go": np.arange(3)}}, "trials has 3 rows, the counts have 20 trials"),
        (COUNTS, {"trials": {"a": [1], "b": [1, 2]}}, "trials has columns of shapes"),
        (SimpleNamespace(time_support=0), {}, "expected a TsGroup of spike times, or a TsdFrame"),
    ],
)
def test_what_is_no_recording(tmp_path, recording, options, said):
    with pytest.raises(LFADSError, match=said) as error:
        lfads.prepare(recording, tmp_path, name="a", **options)
    assert "\n" not in str(error.value)
