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
RNG = np.random.default_rng(1)
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
        (3, {}, "is of type int; expected a path, an array, .* an NWBFile"),
        (COUNTS, {"trials": 7}, "trials is of type int; expected a path, an IntervalSet"),
        (COUNTS, {"trials": {"go": np.arange(3)}}, "trials has 3 rows, the counts have 20 trials"),
        (COUNTS, {"trials": {"a": [1], "b": [1, 2]}}, "trials has columns of shapes"),
        (SimpleNamespace(time_support=0), {}, "expected a TsGroup of spike times, or a TsdFrame"),
    ],
)
def test_what_is_no_recording(tmp_path, recording, options, said):
    with pytest.raises(LFADSError, match=said) as error:
        lfads.prepare(recording, tmp_path, name="a", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["mapping", "list", "trains", "nested"])
def test_spike_times_by_neuron(tmp_path, kind):
    """Without a word that says so: {unit: times}, a list of them, neurons × trials."""
    options = WINDOW | {"trials": trials_of("mapping")}
    given = {
        "mapping": {f"u{k}": t for k, t in enumerate(REC.times)},
        "list": list(REC.times),
        "trains": {k + 3: SimpleNamespace(t=t, time_support=None) for k, t in enumerate(REC.times)},
        "nested": [
            [t[(t >= a) & (t < b)] - a for a, b in zip(REC.start, REC.stop, strict=True)]
            for t in REC.times
        ],
    }[kind]
    if kind == "nested":
        options = WINDOW | {"align_to": None, "window_s": (0, 0.4), "min_rate_hz": 0}
    counts, session = made(given, tmp_path, **options)
    ids = {"mapping": "u0", "trains": 3}.get(kind, 0)
    assert session.neuron_ids.tolist()[0] == ids
    first = REC.start if kind == "nested" else REC.go - 0.2
    edges = np.arange(counts.shape[1] + 1) * WIDTH
    for k in (0, len(first) - 1):
        for d, times in enumerate(REC.times):
            expected = np.histogram(times - first[k], edges)[0]
            np.testing.assert_allclose(counts[k, :, d].sum(), expected.sum(), atol=1)


def test_names_that_nobody_knows_are_not_taken_for_units(tmp_path):
    spikes = {"my_times": np.sort(RNG.uniform(0, 9, 50)), "my_units": RNG.integers(0, 3, 50),
              "go": np.arange(4.0)}  # fmt: skip
    with pytest.raises(LFADSError, match="found my_times, my_units, go; expected counts"):
        lfads.prepare(spikes, tmp_path, name="a", bin_width_s=0.01, chop_bins=10)


def test_blocks_of_neo(tmp_path):
    """Events and epochs are columns; segments with clocks of their own are trials."""
    neo = pytest.importorskip("neo", reason="needs the extra [neo]")
    pq = pytest.importorskip("quantities")
    segment = neo.Segment()
    for k, times in enumerate(REC.times):
        segment.spiketrains.append(
            neo.SpikeTrain(times * pq.s, t_stop=REC.end * pq.s, name=f"ch{k}#1")
        )
    segment.events.append(neo.Event(REC.go * pq.s, labels=["go"] * len(REC.go), name="go"))
    block = neo.Block()
    block.segments.append(segment)
    by_times = made(REC.times, tmp_path, trials={"go": REC.go}, **WINDOW)[0]
    for given in (segment, block):
        counts, session = made(given, tmp_path, **WINDOW)
        np.testing.assert_array_equal(counts, by_times)
        assert session.neuron_ids.tolist()[0] == "ch0#1"
    block = neo.Block()
    for _ in range(5):
        block.segments.append(neo.Segment())
        for name in ("a", "b"):
            block.segments[-1].spiketrains.append(
                neo.SpikeTrain([0.15, 0.35] * pq.s, t_stop=0.4 * pq.s, name=name)
            )
    counts, _ = made(block, tmp_path, bin_width_s=0.1, window_s=(0, 0.4))
    assert counts.tolist() == [[[0, 0], [1, 1], [0, 0], [1, 1]]] * 5


def test_coordinates_and_data_sets_of_xarray(tmp_path):
    xarray = pytest.importorskip("xarray")
    array = xarray.DataArray(
        COUNTS, dims=("trial", "time", "unit"), coords={"time": 1 + np.arange(30) * 0.02}
    )
    turned = array.transpose("unit", "time", "trial")
    data = xarray.Dataset({"spikes": turned, "side": ("trial", np.arange(20) % 2)})
    for given, options in ((data, {"condition": "side"}), (turned, {}),
                           (turned, {"axes": ("neurons", "bins", "trials")})):  # fmt: skip
        counts, session = made(given, tmp_path, **options)
        np.testing.assert_array_equal(counts, COUNTS)
        assert session.bin_width_s == 0.02
    assert made(turned.assign_coords(time=np.arange(30)), tmp_path)[1].bin_width_s is None
    with pytest.raises(LFADSError, match="its axes are called trial, time, what; expected trial"):
        lfads.prepare(array.rename(unit="what"), tmp_path, name="a")
    with pytest.raises(LFADSError, match="holds a, b; expected one of these as counts"):
        lfads.prepare(xarray.Dataset({"a": array, "b": array}), tmp_path, name="a")


def test_frames_with_an_index_that_has_names(tmp_path):
    frame = pd.concat(
        {k: pd.DataFrame(x, index=np.arange(30) * 0.02) for k, x in enumerate(COUNTS)},
        names=["trial", "time"],
    )
    counts, session = made(frame, tmp_path)
    np.testing.assert_array_equal(counts, COUNTS)
    assert session.bin_width_s == 0.02


class TsdFrame:
    """What pynapple's class of this name has, and we look at."""

    def __init__(self, times, values):
        self.t, self.values, self.time_support = times, values, None


def test_what_was_sampled_piece_by_piece(tmp_path):
    """The gap of a TsdFrame is one, and times are those of its clock."""
    values = RNG.poisson(1.0, (200, 9))
    kept = np.r_[0:80, 120:200]
    frame = TsdFrame(5 + kept * 0.02, values[kept])
    session = made(frame, tmp_path, chop_bins=40, valid_fraction=0.25)[1]
    assert len(session.train.data) + len(session.valid.data) == 4
    trials = {"start_time": 5 + np.array([10, 70, 130]) * 0.02}
    trials["stop_time"] = trials["start_time"] + 0.4
    session = lfads.read_session(
        lfads.prepare(frame, tmp_path, name="b", trials=trials, valid_fraction=0)
    )
    np.testing.assert_array_equal(session.train.data[2], values[130:150])
    assert session.train.mask.all(2).sum(1).tolist() == [20, 10, 20]
