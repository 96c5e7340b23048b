"""lfads prepare: every format to the same counts, every option's effect, through to training."""

import os
import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import ROOT
from recordings import (
    N_TRIALS,
    N_UNITS,
    REC,
    UNIT_IDS,
    WIDTH,
    npz,
    write_mat73,
    write_nwb,
)

import lfads_lightning as lfads
from lfads_lightning.cli.check import main as check_main
from lfads_lightning.cli.prepare import main
from lfads_lightning.data import fields
from lfads_lightning.recordings import keys
from lfads_lightning.recordings.settings import Settings

DATA = Path(os.environ.get("LFADS_DATA", ROOT.parent / "shared" / "data"))
WINDOW = {"bin_width_s": WIDTH, "align_to": "go_cue_time", "window_s": (-0.2, 0.5)}
N_BINS = 35
TABLE = zip(REC.start, REC.stop, REC.go, REC.condition, strict=True)
TRIALS_CSV = "start_time,stop_time,go_cue_time,condition\n" + "".join(
    f"{a},{b},{c},{d}\n" for a, b, c, d in TABLE
)


def content(path):
    """Return everything in a session file."""
    with h5py.File(path) as file:
        return {
            key: item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
            for key, item in file.items()
        }


def in_order(made, what="data", n=N_TRIALS):
    """Return what lies in the splits, in the order of the source's trials."""
    splits = [s for s in keys.SPLITS if f"{s}_data" in made]
    inds = np.concatenate([made[f"{s}_inds"] for s in splits])
    assert sorted(inds.tolist()) == list(range(n))
    return np.concatenate([made[f"{s}_{what}"] for s in splits])[np.argsort(inds)]


def write_tables(folder, spikes="spikes.csv", trials=True):
    times, units = REC.rows()
    lines = "".join(f"{u},{t!r}\n" for t, u in zip(times.tolist(), units.tolist(), strict=True))
    (folder / spikes).write_text("unit,time\n" + lines)
    if trials:
        (folder / "spikes_trials.csv").write_text(TRIALS_CSV)
    return folder / spikes


def cells(rows):
    made = np.empty((len(rows), 1), object)
    made[:, 0] = rows
    return made


MAT = {
    "spike_times": cells([t[None] for t in REC.times]),
    "unit_ids": np.array([UNIT_IDS], float),
    "start_time": REC.start[:, None],
    "go_cue_time": REC.go[None],
    "condition": np.array([[0, 1, 2] * 8], float),
    "hand_vel": REC.velocity,
    "hand_vel_times": REC.samples[:, None],
}


def mat5(path):
    from scipy.io import savemat

    savemat(path, MAT)
    return path


def parquet(path):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    times, units = REC.rows()
    pandas.DataFrame({"neuron": units, "spike_time": times}).to_parquet(path)
    return path


@pytest.fixture(params=["nwb", "npz", "csv", "parquet", "mat5", "mat73", "frame", "arrays"])
def source(request, tmp_path):
    """The recording in every format, with the options that it needs."""
    kind = request.param
    tables = {
        "trials": str(tmp_path / "{name}_trials.csv"),
        "behaviour_file": str(tmp_path / "{name}_hand.csv"),
    }
    if kind in ("csv", "parquet", "frame"):
        rows = np.column_stack([REC.samples, REC.velocity])
        names = {"header": "time,hand_vel_0,hand_vel_1", "comments": ""}
        np.savetxt(tmp_path / "spikes_hand.csv", rows, delimiter=",", **names)
        path = write_tables(tmp_path)
    if kind == "nwb":
        pytest.importorskip("pynwb", reason="needs the extra [nwb]")
        return write_nwb(tmp_path / "day.nwb", REC), {"behaviour": ("hand_vel",)}
    if kind == "parquet":
        return parquet(tmp_path / "spikes.parquet"), tables
    if kind == "csv":
        return path, tables
    if kind == "frame":
        pandas = pytest.importorskip("pandas", reason="needs pandas")
        times, units = REC.rows()
        frame = pandas.DataFrame({"unit": units, "time": times})
        return frame, tables | {"name": "spikes"}
    if kind == "arrays":
        with np.load(npz(tmp_path / "day.npz")) as file:
            return dict(file), {"name": "day", "behaviour": ("hand_vel",)}
    made = {
        "npz": lambda: npz(tmp_path / "day.npz"),
        "mat5": lambda: mat5(tmp_path / "day.mat"),
        "mat73": lambda: write_mat73(tmp_path / "day.mat", MAT),
    }[kind]()
    return made, {"behaviour": ("hand_vel",)}


def test_every_format_gives_the_counts_of_a_histogram(source, tmp_path):
    recording, options = source
    made = content(lfads.prepare(recording, tmp_path / "out", **WINDOW, **options))
    counts = in_order(made)
    assert counts.dtype == np.uint8
    np.testing.assert_array_equal(counts, REC.histogram(-0.2, N_BINS))
    assert made["neuron_ids"].tolist() == UNIT_IDS
    assert made["bin_width_s"] == WIDTH
    np.testing.assert_allclose(in_order(made, "event_times_s"), REC.go)
    behaviour = in_order(made, "behaviour")
    assert behaviour.shape == (N_TRIALS, N_BINS, 2)
    assert made["behaviour_names"].tolist() == ["hand_vel_0", "hand_vel_1"]
    centres = REC.go[:, None] - 0.2 + (np.arange(N_BINS) + 0.5) * WIDTH
    np.testing.assert_allclose(behaviour[..., 0], np.sin(centres), atol=3e-3)
    np.testing.assert_allclose(behaviour[..., 1], np.cos(3 * centres), atol=8e-3)
    conditions = in_order(made, "condition")
    assert len(set(conditions.tolist())) == 3
    assert len(set(conditions[::3].tolist())) == 1
    for split, n in (("train", 6), ("valid", 2)):  # stratified: 8 trials of each
        got = np.unique(made[f"{split}_condition"], return_counts=True)[1]
        assert abs(got - n).max() <= 1
    assert made["event"] == "go_cue_time"
    assert made["window_s"].tolist() == [-0.2, 0.5]
    assert made["version"] == lfads.__version__
    known = {k.replace("SPLIT", s) for k in keys.KEYS for s in keys.SPLITS}
    known |= {*fields.KEYS, *(f"test_{name}" for name in fields.OF_SPLIT)}
    assert {k for k in made if not k.endswith(("_data", "_time"))} <= known


def test_written_nwb_goes_to_training_from_the_command_line(call, tmp_path, capsys):
    """Spike times, NWB, session file, check, training."""
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = write_nwb(tmp_path / "day.nwb", REC, held_out=[k in (1, 4) for k in range(N_UNITS)])
    words = (
        "--bin-width-s 0.02 --align-to go_cue_time --window-s -0.2 0.5 --behaviour hand_vel speed"
    )
    assert main([str(path), "--out", str(tmp_path / "out"), *words.split()]) == 0
    out = capsys.readouterr().out
    assert "day.h5: 19 train + 5 valid trials x 35 bins of 20 ms x 6 neurons (0.392" in out
    assert "  behaviour: hand_vel_0, hand_vel_1, speed; it is decoded from" in out
    made = content(tmp_path / "out" / "day.h5")
    assert made["held_out_neurons"].tolist() == [1, 4]
    assert made["behaviour_names"].tolist() == ["hand_vel_0", "hand_vel_1", "speed"]
    assert made["train_trial_ids"].tolist() == made["train_inds"].tolist()
    assert check_main([str(tmp_path / "out" / "day.h5")]) == 0
    start = re.search(r"lfads train (data.*)", capsys.readouterr().out)
    assert start is not None
    result = call(*shlex.split(start[1]), "trainer.max_epochs=1", "trainer.device=cpu:0")
    assert result.code == 0, result.err
    assert "co bps" in result.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "words"), [("macaque", ["--behaviour", "velocity"]), ("aplysia", [])]
)
def test_recordings_of_others_go_to_training(stem, words, call, tmp_path, capsys):
    """One file, one session: the three aplysia bouts are trained together."""
    paths = sorted(DATA.glob(f"{stem}*.npz"))
    if not paths:
        pytest.skip("the recordings are not here (LFADS_DATA or ../shared/data)")
    assert main([*map(str, paths), "--out", str(tmp_path), *words]) == 0
    for path in paths:
        with np.load(path) as file:
            counts = file["counts"]
            made = content(tmp_path / f"{path.stem}.h5")
            np.testing.assert_array_equal(in_order(made, n=len(counts)), counts)
            assert made["bin_width_s"] == file["bin_s"]
            if stem == "macaque":
                for what, array in (("behaviour", "velocity"), ("condition", "condition")):
                    np.testing.assert_array_equal(in_order(made, what, len(counts)), file[array])
            else:  # every fifth trial, as the figures for these were made
                assert made["valid_inds"].tolist() == [0, 5, 10]
    capsys.readouterr()
    assert check_main([str(tmp_path / f"{path.stem}.h5") for path in paths]) == 0
    start = re.search(r"lfads train (data.*)", capsys.readouterr().out)
    assert start is not None
    every = start[1].replace(f"stem={paths[0].stem}", f"stem={stem}")
    result = call(*shlex.split(every), "trainer.max_epochs=1", "trainer.device=cpu:0")
    assert result.code == 0, result.err
    assert all(f"{path.stem.removeprefix(stem + '_')}: " in result.out for path in paths)


def test_calcium_of_others_goes_to_training(call, tmp_path, capsys):
    path = DATA / "songbird_hvc_calcium.mat"
    if not path.exists():
        pytest.skip("the recording is not here (LFADS_DATA or ../shared/data)")
    words = (
        "--counts-key NEURAL --axes neurons bins --source-bin-width-s 0.0333333 --min-rate-hz 0.01"
    )
    words += " --chop-bins 60 --overlap-bins 20"
    assert main([str(path), "--out", str(tmp_path), *words.split()]) == 0
    assert "lfads check suggests a model.output_dist" in capsys.readouterr().out
    assert check_main([str(tmp_path / f"{path.stem}.h5")]) == 0
    told = capsys.readouterr().out
    assert "output_dist zero_inflated_gamma" in told  # the recipe says so
    start = re.search(r"lfads train (data.*)", told)
    assert start is not None
    result = call(*shlex.split(start[1]), "trainer.max_epochs=1", "trainer.device=cpu:0")
    assert result.code == 0, result.err


# one test for each option --------------------------------------------------------------------

TESTED = ["unit_quality"]  # recordings/test_kilosort.py


def effect_of(*names):
    """Register the test below as the one of these options."""

    def register(test):
        TESTED.extend(names)
        return test

    return register


COUNTS = np.random.default_rng(0).poisson(1.0, (20, 12, 4)).astype(np.uint8)


def prepared(tmp_path, recording=None, **options):
    """Prepare binned counts, by default; return what was written."""
    recording = {"counts": COUNTS, "bin_s": 0.01} if recording is None else recording
    return content(lfads.prepare(recording, tmp_path / "out", name="x", **options))


@effect_of("bin_width_s")
def test_bin_width(tmp_path):
    made = prepared(tmp_path, bin_width_s=0.03)
    expected = COUNTS.reshape(20, 4, 3, 4).sum(2)
    np.testing.assert_array_equal(in_order(made, n=20), expected)
    assert made["bin_width_s"] == pytest.approx(0.03)


@effect_of("source_bin_width_s")
def test_source_bin_width(tmp_path):
    made = prepared(tmp_path, {"counts": COUNTS}, source_bin_width_s=0.02, bin_width_s=0.04)
    assert made["train_data"].shape[1] == 6


@effect_of("counts_key", "axes")
def test_key_and_axes(tmp_path):
    arrays = {"mine": COUNTS.transpose(2, 1, 0), "counts": COUNTS + 1}
    made = prepared(tmp_path, arrays, counts_key="mine", axes=("neurons", "bins", "trials"))
    np.testing.assert_array_equal(in_order(made, n=20), COUNTS)


@effect_of("unit_column", "time_column", "trial_column")
def test_columns(tmp_path):
    rng = np.random.default_rng(0)
    n = 2000
    columns = {
        "kanal": rng.integers(0, 3, n),
        "zeit": rng.uniform(0, 0.4, n),
        "versuch": rng.integers(1, 9, n),
        "time": np.zeros(n),
    }
    made = prepared(
        tmp_path,
        columns,
        unit_column="kanal",
        time_column="zeit",
        trial_column="versuch",
        bin_width_s=0.1,
        window_s=(0, 0.4),
    )
    expected = np.zeros((8, 4, 3), int)
    bins = np.floor(columns["zeit"] / 0.1).astype(int)
    np.add.at(expected, (columns["versuch"] - 1, bins, columns["kanal"]), 1)
    np.testing.assert_array_equal(in_order(made, n=8), expected)
    assert sorted(np.concatenate([made["train_trial_ids"], made["valid_trial_ids"]])) == list(
        range(1, 9)
    )


@effect_of("time_unit", "sampling_rate_hz")
@pytest.mark.parametrize(
    ("unit", "scale", "rate"), [("ms", 1e3, None), ("us", 1e6, None), ("samples", 3e4, 3e4)]
)
def test_time_unit(tmp_path, unit, scale, rate):
    more = {
        key: (value * scale).round(6)
        for key, value in (
            ("trial_start", REC.start),
            ("trial_stop", REC.stop),
            ("go_cue_time", REC.go),
        )
    }
    times, units = REC.rows()
    path = npz(tmp_path / "x.npz", spike_times=(times * scale).round(6), **more)
    made = content(lfads.prepare(path, tmp_path, time_unit=unit, sampling_rate_hz=rate, **WINDOW))
    np.testing.assert_array_equal(in_order(made), REC.histogram(-0.2, N_BINS))


@effect_of("trials", "align_to", "window_s")
def test_interval_table_by_name(tmp_path):
    """The name of another NWB table; whole trials where no window is given."""
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = write_nwb(tmp_path / "x.nwb", REC, invalid=[(0.5, 1.0), (100.0, 101.0)])
    made = content(lfads.prepare(path, tmp_path, trials="trials", bin_width_s=WIDTH))
    np.testing.assert_array_equal(in_order(made), REC.histogram(0, 50, REC.start))
    with pytest.raises(lfads.LFADSError, match="has no interval table epochs; expected one of"):
        lfads.prepare(path, tmp_path, trials="epochs", bin_width_s=WIDTH)


@effect_of("recording_s")
def test_trials_outside_the_recording_are_dropped(tmp_path):
    path = npz(tmp_path / "x.npz")
    until = float(REC.go[9] + 0.5)
    made = content(lfads.prepare(path, tmp_path, recording_s=(0, until), **WINDOW))
    np.testing.assert_array_equal(in_order(made, n=10), REC.histogram(-0.2, N_BINS)[:10])
    assert made["left_out"].tolist() == [f"14 trials outside the recording (0 to {until:.6g} s)"]


def test_trials_in_gaps_are_dropped(tmp_path):
    """Stretches that a unit was not observed in, or that are marked as invalid."""
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    observed = [np.array([[0.0, REC.end]])] * N_UNITS
    observed[2] = np.array([[0.0, REC.go[3]], [REC.go[3] + 0.01, REC.end]])
    path = write_nwb(
        tmp_path / "x.nwb", REC, obs_intervals=observed, invalid=[(REC.go[7], REC.go[7] + 0.1)]
    )
    made = content(lfads.prepare(path, tmp_path, **WINDOW))
    kept = np.sort(np.concatenate([made["train_inds"], made["valid_inds"]]))
    assert sorted(set(range(N_TRIALS)) - set(kept.tolist())) == [3, 7]


def test_trials_without_the_event_are_dropped(tmp_path):
    go = REC.go.copy()
    go[[0, 5]] = np.nan
    made = content(lfads.prepare(npz(tmp_path / "x.npz", go_cue_time=go), tmp_path, **WINDOW))
    assert 0 not in made["train_inds"]
    assert made["left_out"].tolist() == ["2 trials without the event go_cue_time"]


@effect_of("min_rate_hz")
def test_rate_limit(tmp_path):
    counts = COUNTS.copy()
    counts[:, :, 1] = 0
    counts[0, 0, 1] = 1
    counts[:, :, 2] = 0
    arrays = {"counts": counts, "bin_s": 0.01, "neuron_ids": np.array([7, 8, 9, 10])}
    made = prepared(tmp_path, arrays, min_rate_hz=1.0)
    assert made["neuron_ids"].tolist() == [7, 10]
    np.testing.assert_array_equal(in_order(made, n=20), counts[:, :, [0, 3]])
    assert made["left_out"].tolist() == ["2 neurons below 1 Hz: 8, 9"]
    assert prepared(tmp_path, arrays, min_rate_hz=0)["train_data"].shape[2] == 4


@effect_of("leave_out")
def test_leave_out(tmp_path):
    arrays = {"counts": COUNTS, "unit_ids": np.array(["a", "b", "c", "d"])}
    made = prepared(tmp_path, arrays, leave_out=("b", "d"))
    assert made["neuron_ids"].tolist() == ["a", "c"]
    np.testing.assert_array_equal(in_order(made, n=20), COUNTS[:, :, [0, 2]])


@effect_of("held_out")
def test_held_out(tmp_path):
    arrays = {"counts": COUNTS, "unit_ids": np.array([5, 6, 7, 8]), "keep_apart": np.array([8, 6])}
    made = prepared(tmp_path, arrays, held_out="keep_apart", leave_out=("5",))
    assert made["held_out_neurons"].tolist() == [0, 2]  # columns of what is left
    assert "held_out_neurons" not in prepared(tmp_path, arrays)


@effect_of("condition")
def test_condition(tmp_path):
    arrays = {"counts": COUNTS, "target": np.arange(20) % 4 * 0.25, "condition": np.arange(20)}
    made = prepared(tmp_path, arrays, condition="target")
    assert in_order(made, "condition", 20)[:5].tolist() == ["0", "0.25", "0.5", "0.75", "0"]
    assert sorted(made["valid_condition"].tolist()) == ["0", "0.25", "0.5", "0.75"]


@effect_of("behaviour")
def test_behaviour_of_counts_is_averaged_with_them(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "counts": COUNTS, "bin_s": 0.01, "speed": rng.normal(size=(20, 12)),
        "hand": rng.normal(size=(20, 12, 2)), "torque": rng.normal(size=(20, 12, 1)),
    }  # fmt: skip
    made = prepared(tmp_path, arrays, behaviour=("hand", "speed"), bin_width_s=0.02)
    expected = np.concatenate([arrays["hand"], arrays["speed"][:, :, None]], axis=2)
    expected = expected.reshape(20, 6, 2, 3).mean(2)
    np.testing.assert_allclose(in_order(made, "behaviour", 20), expected, rtol=1e-5)
    assert made["behaviour_names"].tolist() == ["hand_0", "hand_1", "speed"]
    assert made["train_torque"].shape == (16, 6, 1)  # kept, under its own name


@effect_of("behaviour_file")
def test_behaviour_file_of_cut_trials(tmp_path):
    """Spikes and behaviour that come cut into trials, each with its own clock."""
    rng = np.random.default_rng(0)
    n = 3000
    columns = {
        "unit": rng.integers(0, 3, n),
        "time": rng.uniform(-0.1, 0.4, n),
        "trial": rng.integers(0, 8, n),
    }
    times = np.arange(-0.1, 0.4, 0.001)
    order = (3, 0, 99, 1, 2, 7, 6, 5, 4)  # 99 has no spikes
    rows = np.concatenate([np.stack([np.full(500, k), times, k + times], 1) for k in order])
    np.savetxt(tmp_path / "x.csv", rows, delimiter=",", header="trial,time,pos", comments="")
    made = prepared(
        tmp_path,
        columns,
        behaviour_file=str(tmp_path / "{name}.csv"),
        bin_width_s=0.05,
        window_s=(-0.1, 0.4),
    )
    expected = np.arange(8)[:, None] - 0.1 + 0.05 * np.arange(10) + 0.0245
    np.testing.assert_allclose(in_order(made, "behaviour", 8)[..., 0], expected, atol=1e-5)


@effect_of("drop_nan_behaviour")
def test_trials_with_nan_behaviour(tmp_path):
    speed = np.zeros((20, 12))
    speed[3, 4] = speed[11, 0] = np.nan
    arrays = {"counts": COUNTS, "speed": speed}
    with pytest.raises(lfads.LFADSError, match="speed is NaN in 2 of 20 trials, first in bin 4 of"):
        prepared(tmp_path, arrays, behaviour=("speed",))
    made = prepared(tmp_path, arrays, behaviour=("speed",), drop_nan_behaviour=True)
    kept = np.concatenate([made["train_inds"], made["valid_inds"]])
    assert sorted(set(range(20)) - set(kept.tolist())) == [3, 11]


@effect_of("valid_fraction", "test_fraction")
def test_fractions(tmp_path):
    arrays = {"counts": COUNTS, "condition": np.repeat([0, 1], 10)}
    made = prepared(tmp_path, arrays, valid_fraction=0.3, test_fraction=0.2)
    for split, n in (("train", 5), ("valid", 3), ("test", 2)):
        assert np.unique(made[f"{split}_condition"], return_counts=True)[1].tolist() == [n, n]
    np.testing.assert_array_equal(in_order(made, n=20), COUNTS)
    assert "valid_data" not in prepared(tmp_path, valid_fraction=0)


@effect_of("split", "seed")
def test_random_split(tmp_path):
    even = prepared(tmp_path)["valid_inds"].tolist()
    assert even == [0, 5, 10, 15]
    drawn = [prepared(tmp_path, split="random", seed=k)["valid_inds"].tolist() for k in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert even not in drawn
    assert [len(inds) for inds in drawn] == [4, 4, 4]


@effect_of("chop_bins", "overlap_bins")
def test_chops(tmp_path):
    """More of them: tests/recordings/test_chops.py."""
    made = prepared(tmp_path, {"counts": COUNTS[:, 0]}, chop_bins=6, overlap_bins=2)
    starts = np.concatenate([made["train_chop_starts"], made["valid_chop_starts"]])
    assert sorted(starts.tolist()) == [0, 4, 8, 12, 14]


def test_every_option_is_tested():
    names = set(Settings.__dataclass_fields__)
    elsewhere = {"where", "units", "split_column"} | {"rows", "columns"}  # test_selection, _tables
    elsewhere |= {"nlb", "behaviour_lag_s"}  # test_nlb
    assert names == set(TESTED) | elsewhere


def test_options_of_the_command_line_are_those_of_python(tmp_path, capsys):
    """Each reaches the file as it was typed."""
    np.savez(tmp_path / "a.npz", counts=COUNTS, bin_s=0.01, speed=np.ones((20, 12)))
    assert main([str(tmp_path / "a.npz"), "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "  speed: values in every bin; with --behaviour speed they are decoded from" in told
    words = "--bin-width-s 0.02 --window-s 0 0.1 --behaviour speed --valid-fraction 0.5 --seed 3"
    words += " --split random --min-rate-hz 0 --drop-nan-behaviour --leave-out 2 3"
    assert main([str(tmp_path / "a.npz"), "--out", str(tmp_path), *words.split()]) == 0
    made = content(tmp_path / "a.h5")
    assert made["train_data"].shape == (10, 5, 2)
    settings = dict(line.split(": ", 1) for line in made["settings"].splitlines() if ": " in line)
    assert settings["split"] == "random"
    assert settings["valid_fraction"] == "0.5"
    assert settings["drop_nan_behaviour"] == "true"


def test_several_recordings_become_several_sessions(tmp_path, capsys):
    """One that is wrong does not keep the others from being written."""
    for name in ("a", "c"):
        np.savez(tmp_path / f"{name}.npz", counts=COUNTS, bin_s=0.01)
    np.savez(tmp_path / "b.npz", nothing=1)
    paths = [str(tmp_path / f"{name}.npz") for name in "abc"]
    assert main([*paths, "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.h5", "c.h5"]
    assert printed.err.startswith(f"error: {paths[1]}: found nothing; expected counts")
    assert len(printed.err.splitlines()) == 1


def test_truth_and_inputs_come_along(tmp_path):
    """Under the keys that training reads; of the neurons that stay."""
    arrays = {"counts": COUNTS, "truth": COUNTS + 0.5, "ext_input": np.ones((20, 12, 2))}
    path = lfads.prepare(arrays, tmp_path, name="x", leave_out=("1",))
    session = lfads.read_session(path)
    np.testing.assert_array_equal(session.train.truth, session.train.data + 0.5)
    assert session.train.truth.shape == (16, 12, 3)
    assert session.valid.ext_input.shape == (4, 12, 2)


def test_other_per_trial_arrays_are_kept(tmp_path):
    made = prepared(tmp_path, {"counts": COUNTS, "reaction_time": np.arange(20.0)})
    assert in_order(made, "reaction_time", 20).tolist() == list(range(20))


def test_cells_of_units_and_trials(tmp_path):
    """MATLAB's spikes{unit, trial}, each trial with its own clock."""
    rng = np.random.default_rng(0)
    made = np.empty((3, 8), object)
    for k in np.ndindex(3, 8):
        made[k] = np.sort(rng.uniform(0, 1, rng.integers(0, 9)))[None]
    made[0, 0] = np.zeros((0, 0))
    variables = {"spikes": made, "cue": np.linspace(0.3, 0.4, 8)[None], "target": np.arange(8.0)}
    path = write_mat73(tmp_path / "x.mat", variables)
    window = {"bin_width_s": 0.1, "align_to": "cue", "window_s": (-0.2, 0.3)}
    session = content(lfads.prepare(path, tmp_path, condition="target", **window))
    edges = np.arange(6) * 0.1 - 0.2
    expected = [
        [np.histogram(made[d, e].ravel() - variables["cue"][0, e], edges)[0] for d in range(3)]
        for e in range(8)
    ]
    np.testing.assert_array_equal(in_order(session, n=8), np.transpose(expected, (0, 2, 1)))
    np.testing.assert_allclose(in_order(session, "event_times_s", 8), variables["cue"][0])


def test_structure_fields_are_found(tmp_path):
    path = write_mat73(
        tmp_path / "x.mat", {"trial": {"counts": COUNTS}, "note": "text", "bin_ms": 20.0}
    )
    made = content(lfads.prepare(path, tmp_path, counts_key="trial.counts"))
    np.testing.assert_array_equal(in_order(made, n=20), COUNTS)
    assert made["bin_width_s"] == pytest.approx(0.02)
