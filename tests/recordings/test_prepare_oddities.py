"""What labs' recordings are really like: lists of arrays, turned axes, events alone, odd tables."""

import warnings

import h5py
import numpy as np
import pytest
from recordings import N_TRIALS, REC, WIDTH
from scipy.io import savemat
from test_prepare_errors import COUNTS, WINDOW, refused

import lfads_lightning as lfads
from lfads_lightning.cli.check import main as check_main
from lfads_lightning.cli.prepare import main
from lfads_lightning.data.orientation import likely_axes
from lfads_lightning.recordings.findings import check_file

CUE = {"go_cue_time": REC.go, "start_time": REC.start}
HISTOGRAM = REC.histogram(-0.2, 35)


def counts_in(path):
    """Return the counts of all trials, in the order of the recording."""
    s = lfads.read_session(path)
    data = np.concatenate([s.train.data, s.valid.data])
    return data[np.argsort(np.concatenate([s.train.inds, s.valid.inds]))]


@pytest.mark.parametrize(
    "times",
    [
        REC.times,
        [t.tolist() for t in REC.times],
        tuple(REC.times),
        np.array(REC.times, dtype=object),
    ],
    ids=["arrays", "lists", "tuple", "objects"],
)
def test_list_of_spike_times_by_neuron(tmp_path, times):
    path = lfads.prepare({"spike_times": times, **CUE}, tmp_path, name="x", **WINDOW)
    np.testing.assert_array_equal(counts_in(path), HISTOGRAM)


def test_list_of_equally_many_spikes_is_one_too(tmp_path):
    fewest = min(map(len, REC.times))
    times = [t[:fewest] for t in REC.times]
    path = lfads.prepare({"spike_times": times, **CUE}, tmp_path, name="x", **WINDOW)
    assert counts_in(path)[0].tolist() == HISTOGRAM[0].tolist()


def test_events_alone_tell_the_trials(tmp_path):
    recording = {"spike_times": REC.times, "go_cue_time": REC.go}
    path = lfads.prepare(recording, tmp_path, name="x", **WINDOW)
    np.testing.assert_array_equal(counts_in(path), HISTOGRAM)


def test_events_that_are_not_one_for_each_trial(tmp_path):
    recording = {"spike_times": REC.times, "start_time": REC.start, "go_cue_time": REC.go[1:]}
    with refused(f"go_cue_time has {N_TRIALS - 1} entries, the trials are {N_TRIALS} (start_time)"):
        lfads.prepare(recording, tmp_path, name="x", **WINDOW)


def test_trials_that_overlap_are_warned_of(tmp_path, capsys):
    path = tmp_path / "a.npz"
    np.savez(
        path,
        spike_times=np.concatenate(REC.times),
        spike_units=np.repeat(np.arange(len(REC.times)), list(map(len, REC.times))),
        start_time=np.arange(1.0, 30.0, 0.5),
    )
    words = [str(path), "--out", str(tmp_path), "--bin-width-s", "0.02", "--align-to", "start_time"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*words, "--window-s", "0", "0.6"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path}: trials of 0.6 s begin 0.5 s after each other")
    assert line.endswith("use a shorter --window-s")
    assert main([*words, "--window-s", "0", "0.5"]) == 0
    assert capsys.readouterr().err == ""


def uneven(n_trials=40, n_neurons=6):
    """Counts of neurons that differ in their rates, (E, T, D)."""
    rates = np.geomspace(0.2, 5, n_neurons)
    return np.random.default_rng(0).poisson(rates, (n_trials, 30, n_neurons))


@pytest.mark.parametrize("n_neurons", [6, 60], ids=["few neurons", "many neurons"])
def test_turned_counts_without_labels(tmp_path, n_neurons):
    counts = uneven(n_neurons=n_neurons)
    path = tmp_path / "a.mat"
    savemat(path, {"counts": counts.transpose(2, 1, 0), "bin_s": WIDTH})
    with refused(f"{path}: counts is {n_neurons}×30×40", "axes=('neurons', 'bins', 'trials')"):
        lfads.prepare(path, tmp_path)
    made = lfads.prepare(path, tmp_path, axes=("neurons", "bins", "trials"))
    np.testing.assert_array_equal(counts_in(made), counts)
    # as it stands, if told so
    as_told = lfads.prepare(path, tmp_path, axes=("trials", "bins", "neurons"), min_rate_hz=0)
    assert lfads.read_session(as_told).data_dim == 40


def test_turned_session_is_a_finding(tmp_path, capsys):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_data"] = uneven().transpose(2, 1, 0)
    assert check_main([str(tmp_path / "a.h5"), "--strict"]) == 1
    assert "train_data is 6×30×40, and it differs along its first axis" in capsys.readouterr().out


@pytest.mark.parametrize(
    "counts",
    [
        uneven(),
        COUNTS,
        np.zeros((4, 5, 6)),
        uneven(4, 60),
        # trials that differ by half in their rates, neurons by a factor of 25
        np.random.default_rng(0).poisson(uneven() * np.linspace(0.5, 1.5, 40)[:, None, None]),
        uneven().transpose(2, 1, 0) - 1.0,
    ],
)
def test_what_is_not_turned(counts):
    assert likely_axes(counts) is None


def test_shared_spikes_are_named_in_full_to_be_typed(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, (30, 40, 30))
    counts[:, :, 1::2] = counts[:, :, ::2] + rng.poisson(0.02, (30, 40, 15))
    path = lfads.write_session(tmp_path / "a.h5", train_data=counts, valid_data=counts[:5])
    (found,) = check_file(path)
    (caution,) = [c for c in found.cautions if "share spikes" in c]
    assert f"(lfads prepare --leave-out {' '.join(map(str, range(1, 30, 2)))})" in caution


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.csv", "unit;time\n1;0,5\n", ["time is not a number", "first in row 1: '0,5'"]),
        ("a.csv", "unit,time\n1,0.5\n1,NaN\n", ["first in row 2: 'nan'", "expected seconds"]),
        ("a.nwb", "hello", ["not an NWB file", "copy or write it again"]),
        ("a.npy", "", ["cannot be read", "as numpy.save writes it"]),
        ("a.h5", "", [".h5 is no known format", "lfads check"]),
    ],
)
def test_remedies_fit_the_file(tmp_path, name, text, parts):
    path = tmp_path / name
    path.write_text(text)
    with refused(f"{path}", *parts):
        lfads.prepare(path, tmp_path / "out", bin_width_s=0.1, chop_bins=5)
    with refused(f"{tmp_path}: is a folder"):
        lfads.prepare(tmp_path, tmp_path / "out")


def test_check_of_a_recording_points_to_prepare(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("unit,time\n1,0.5\n")
    assert check_main([str(tmp_path / "a.csv")]) == 1
    assert "make one from a recording with lfads prepare" in capsys.readouterr().err


def test_trial_times_in_whole_seconds(tmp_path):
    recording = {
        "spike_times": np.linspace(0, 8, 200),
        "spike_units": np.arange(200) % 4,
        "start_time": np.arange(8),
        "stop_time": np.arange(8) + 1,
    }
    path = lfads.prepare(recording, tmp_path, name="a", bin_width_s=0.1)
    assert lfads.read_session(path).n_bins == 10


@pytest.mark.parametrize("stop", [1e10, 1e300, 1.7e308])
@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, r"trials last from .*, within 1e\+08 bins"),
        ({"align_to": "start_time"}, "a window of .*check the unit of time"),
        ({"chop_bins": 5}, r"the recording lasts .* at most 1e\+08 bins of 0\.05 s"),
    ],
    ids=["trials", "window", "chops"],
)
def test_times_that_nobody_records_are_refused(tmp_path, stop, options, part):
    recording = {
        "spike_times": np.linspace(0.5, 4, 60),
        "spike_units": np.arange(60) % 3,
        "start_time": np.array([0.0, 0.0]),
        "stop_time": np.array([stop, stop]),
    }
    options = options | ({"window_s": (0, stop)} if "align_to" in options else {})
    with pytest.raises(lfads.LFADSError, match=part):
        lfads.prepare(
            recording, tmp_path, name="a", bin_width_s=0.05, recording_s=(0, stop), **options
        )


def test_trials_that_do_not_fit_into_memory_are_refused(tmp_path):
    recording = {
        "spike_times": np.linspace(0.5, 4, 60),
        "spike_units": np.arange(60),
        "start_time": np.array([0.0, 1e6]),
        "stop_time": np.array([1e6, 2e6]),
    }
    with pytest.raises(
        lfads.LFADSError, match=r"2e\+07 bins of 0\.05 s and 60 neurons takes 4\.47 GiB"
    ):
        lfads.prepare(recording, tmp_path, name="a", bin_width_s=0.05, recording_s=(0, 2e6))
