"""Bad recordings: each is one line that names file, key, found, expected and remedy."""

import pickle
import re
import zipfile

import h5py
import numpy as np
import pytest
from recordings import N_UNITS, REC, npz, write_mat73, write_nwb

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError

WINDOW = {"bin_width_s": 0.02, "align_to": "go_cue_time", "window_s": (-0.2, 0.5)}
COUNTS = np.random.default_rng(0).poisson(1.0, (20, 12, 4))


def refused(*parts):
    """Expect an LFADSError of one line that holds the parts in this order."""
    pattern = r"\A[^\n]*" + "[^\n]*".join(map(re.escape, parts)) + r"[^\n]*\Z"
    return pytest.raises(LFADSError, match=pattern)


def prepare(tmp_path, recording=None, **options):
    recording = {"counts": COUNTS, "bin_s": 0.01} if recording is None else recording
    return lfads.prepare(recording, tmp_path / "out", name="x", **options)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"align_to": "go_cue"}, ["align_to=go_cue is not an event", "did you mean go_cue_time?",
                                  "expected one of", "go_cue_time"]),
        ({"align_to": "condition"}, ["align_to=condition is not numeric"]),
        ({"window_s": None}, ["aligned to go_cue_time: give window_s"]),
        ({"bin_width_s": None}, ["contains spike times; give bin_width_s"]),
        ({"bin_width_s": 0.03}, ["a window of 0.7 s is 23.3333 bins of 0.03 s", "make it 0.69 s"]),
        ({"window_s": (1000, 1001), "bin_width_s": 0.1}, ["every trial is outside the recording",
                                                          "go_cue_time is from 2."]),
        ({"recording_s": (500, 600)}, ["the recording from 500 to 600 s"]),
        ({"leave_out": ("4",)}, ["leave_out=4: no such neuron", "expected one of 3, 5, 8"]),
        ({"condition": "side"}, ["condition=side: trials have no such column", "expected one of"]),
        ({"min_rate_hz": 1000}, ["no neuron is left; the highest rate is"]),
        ({"behaviour": ("vel",)}, ["behaviour=vel needs arrays vel (samples × values)"]),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_recording(tmp_path, options, parts):
    path = npz(tmp_path / "day.npz")
    with refused(f"{path}: ", *parts):
        lfads.prepare(path, tmp_path, **(WINDOW | options))
    assert not (tmp_path / "day.h5").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"bin_widht_s": 1}, ["no option is named bin_widht_s; did you mean bin_width_s?"]),
        ({"bin_width_s": -1}, ["bin_width_s is -1; expected a positive number"]),
        ({"bin_width_s": "a"}, ["bin_width_s is 'a'; expected float"]),
        ({"window_s": (1, 0)}, ["window_s is (1, 0); expected two times"]),
        ({"overlap_bins": 3}, ["overlap_bins is given without chop_bins"]),
        ({"chop_bins": 3, "overlap_bins": 3}, ["expected 0 <= overlap_bins < chop_bins = 3"]),
        ({"chop_bins": 3, "align_to": "x"}, ["give only one of the two"]),
        ({"valid_fraction": 0.6, "test_fraction": 0.4}, ["leave some trials for training"]),
        ({"time_unit": "samples"}, ["needs sampling_rate_hz"]),
        ({"time_unit": "h"}, ["time_unit is 'h'; expected one of s, ms, us, samples"]),
        ({"split": 3}, ["split is 3; expected str"]),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, parts):
    with refused(*parts):
        prepare(tmp_path, **options)


def silent(recording):
    """Return spike times and units of a recording whose third unit is silent in the trials."""
    times, units = recording
    keep = (units != 8) | (times < 1.0)
    return {"spike_times": times[keep], "spike_units": units[keep]}


def test_units_without_spikes(tmp_path):
    path = npz(tmp_path / "day.npz", **silent(REC.rows()))
    with refused(f"{path}: 1 units have no spikes in any trial: 8; ", "min_rate_hz=0.1"):
        lfads.prepare(path, tmp_path, **WINDOW)
    assert lfads.prepare(path, tmp_path, min_rate_hz=0, **WINDOW).exists()
    with refused("no unit has any spike"):
        lfads.prepare({"spikes": np.zeros(0), "unit": np.zeros(0)}, tmp_path, name="x",
                      bin_width_s=0.1, chop_bins=3, time_column="spikes")  # fmt: skip


@pytest.mark.parametrize(
    ("times", "parts"),
    [
        (lambda t: (t * 30000).round(), ["spike times are whole numbers, up to", "time_unit"]),
        (lambda t: t * 1000 + 0.25, ["the last spike is at 389", "the last trial ends at 37.5"]),
        (lambda t: np.where(t > 38, np.nan, t), ["is not a number in every row"]),
    ],
)
def test_times_that_are_no_seconds(tmp_path, times, parts):
    path = npz(tmp_path / "day.npz", spike_times=times(REC.rows()[0]))
    with refused(f"{path}: ", *parts):
        lfads.prepare(path, tmp_path, **WINDOW)


def test_slow_spikes_of_a_very_long_recording_are_not_seconds(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"time": rng.uniform(0, 600_000, 900), "unit": rng.integers(0, 3, 900)}
    with refused("spike times span 599", "look like a smaller unit; set time_unit"):
        prepare(tmp_path, rows, bin_width_s=10.0, chop_bins=10)
    with pytest.warns(UserWarning, match="rate is only 0.000503 Hz; check the bin width"):
        prepare(tmp_path, rows, bin_width_s=1000.0, chop_bins=10, time_unit="s")


def test_orientation_of_matlab_arrays(tmp_path):
    path = write_mat73(tmp_path / "a.mat", {"counts": COUNTS[0].T})
    with refused(f"{path}: counts is 4×12, and it has fewer bins than neurons; expected",
                 "axes=('neurons', 'bins')"):  # fmt: skip
        lfads.prepare(path, tmp_path, chop_bins=2)
    labelled = {"counts": COUNTS.transpose(2, 1, 0), "condition": np.arange(20.0)}
    path = write_mat73(tmp_path / "b.mat", labelled)
    with refused(f"{path}: counts is 4×12×20, and condition names 20 trials; expected trials",
                 "axes=('neurons', 'bins', 'trials')"):  # fmt: skip
        lfads.prepare(path, tmp_path)
    named = {"counts": COUNTS.transpose(0, 2, 1), "neuron_ids": np.arange(4.0)}
    with refused("neuron_ids names 4 neurons", "axes=('trials', 'neurons', 'bins')"):
        lfads.prepare(write_mat73(tmp_path / "c.mat", named), tmp_path)


def test_bins_that_do_not_divide(tmp_path):
    with refused("counts has bins of 0.01 s, bin_width_s=0.025 is 2.5 of them; expected a whole "
                 "multiple, such as 0.02"):  # fmt: skip
        prepare(tmp_path, bin_width_s=0.025)
    with refused("trials of 12 bins are not a whole number of bins of 0.05 s; crop them",
                 "window_s=(0, 0.1)"):  # fmt: skip
        prepare(tmp_path, bin_width_s=0.05)
    with refused("does not say how wide its bins are; give source_bin_width_s"):
        prepare(tmp_path, {"counts": COUNTS}, bin_width_s=0.02)


def test_chops_where_they_do_not_belong(tmp_path):
    with refused("counts is already cut into trials (20×12×4)"):
        prepare(tmp_path, chop_bins=3)
    with refused("counts is one continuous recording of 12 bins; cut it", "chop_bins"):
        prepare(tmp_path, {"counts": COUNTS[0]})
    with refused("1 trials are too few for a train split", "valid_fraction=0"):
        prepare(tmp_path, {"counts": COUNTS[:1]})
    with refused("its longest unbroken piece has 12 bins; expected at least chop_bins=50"):
        prepare(tmp_path, {"counts": COUNTS[0]}, chop_bins=50)


def test_counts_with_gaps(tmp_path):
    counts = np.full(COUNTS.shape, np.nan)
    with refused("counts: no trial is left (20 trials in which nothing was recorded (NaN counts))"):
        prepare(tmp_path, {"counts": counts})
    counts[:, 3, 2] = np.inf
    with refused("counts contain infinity; expected finite values"):
        prepare(tmp_path, {"counts": counts})


class Runs:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_objects_in_npz_are_refused_without_running(tmp_path):
    mark = tmp_path / "ran"
    array = np.empty(1, object)
    array[0] = Runs(mark)
    np.savez(tmp_path / "a.npz", counts=array)
    with refused("a.npz: counts holds Python objects, which could run code when read; save plain"):
        lfads.prepare(tmp_path / "a.npz", tmp_path)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("counts.pkl", pickle.dumps(Runs(mark)))
    with refused("b.npz: counts.pkl is no array"):
        lfads.prepare(tmp_path / "b.npz", tmp_path)
    assert not mark.exists()


def test_functions_and_objects_in_mat_are_refused(tmp_path):
    path = write_mat73(tmp_path / "a.mat", {"counts": COUNTS, "data": COUNTS})
    with h5py.File(path, "a") as file:
        file["counts"].attrs["MATLAB_class"] = np.bytes_("function_handle")
        file["data"].attrs["MATLAB_object_decode"] = np.int32(3)
    with refused(f"{path}: counts is a function, which is never run"):
        lfads.prepare(path, tmp_path)
    with refused(f"{path}: data is an object of a MATLAB class; store its values"):
        lfads.prepare(path, tmp_path, counts_key="data")


def npy_header(shape, dtype="'|u1'"):
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_absurd_shapes_are_refused_before_memory_is_asked_for(tmp_path):
    for name, shape in (("a", "(1048576, 1048576, 64)"), ("b", "(2000, 100, 100)")):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as file:
            file.writestr("counts.npy", npy_header(shape) + b"\0" * 100)
    with refused("a.npz: counts declares 1048576×1048576×64 values, 65536 GiB; the limit is 32"):
        lfads.prepare(tmp_path / "a.npz", tmp_path)
    with refused("b.npz: counts declares 2000×100×100 values of uint8, the file has 100 bytes"):
        lfads.prepare(tmp_path / "b.npz", tmp_path)
    path = write_mat73(tmp_path / "c.mat", {})
    with h5py.File(path, "a") as file:
        file.create_dataset("counts", (2**20, 2**20, 64), "f8", chunks=(1, 1, 64))
    with refused("c.mat: counts declares 1048576×1048576×64 values"):
        lfads.prepare(path, tmp_path)


def test_links_to_other_files_are_refused(tmp_path):
    path = write_mat73(tmp_path / "a.mat", {})
    with h5py.File(path, "a") as file:
        file["counts"] = h5py.ExternalLink("/etc/passwd", "/x")
    with refused(f"{path}: counts is an external link to /x; store the array itself"):
        lfads.prepare(path, tmp_path)


def test_nwb_that_lacks_something(tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = write_nwb(tmp_path / "a.nwb", REC)
    with refused("has no time series hand_vle; did you mean hand_vel?; expected one of "):
        lfads.prepare(path, tmp_path, behaviour="hand_vle", **WINDOW)
    with refused("has no held; found ", "quality", "expected held_out"):
        lfads.prepare(path, tmp_path, held_out="held", **WINDOW)
    late = {**WINDOW, "window_s": (-0.2, 3.0)}
    long = pytest.warns(UserWarning, match="trials of 3.2 s begin 1.418 s after each other")
    with long, refused("behaviour hand_vel_0 is NaN in 1 of 24 trials"):
        lfads.prepare(path, tmp_path, behaviour="hand_vel", recording_s=(0, 100), **late)
    with h5py.File(path, "a") as file:
        file["acquisition/raw"] = h5py.ExternalLink("other.nwb", "/acquisition/raw")
    with refused("a.nwb: /acquisition/raw is an external link to other.nwb", "NWBHDF5IO.export"):
        lfads.prepare(path, tmp_path, **WINDOW)
    with h5py.File(path, "a") as file:
        del file["acquisition/raw"], file["units"]
    with refused("a.nwb: /units has no spike_times; expected"):
        lfads.prepare(path, tmp_path, **WINDOW)


def test_unit_that_was_hardly_observed_is_named(tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    observed = [np.array([[0.0, REC.end]])] * N_UNITS
    observed[3] = np.array([[0.0, 0.5]])
    path = write_nwb(tmp_path / "a.nwb", REC, obs_intervals=observed)
    with refused(
        "every trial is outside", "unit 13 was observed for 0.5 s only; leave_out=('13',)"
    ):
        lfads.prepare(path, tmp_path, **WINDOW)


@pytest.mark.parametrize(("module", "suffix"), [("pynwb", "nwb"), ("pyarrow", "parquet")])
def test_missing_extra_is_named(tmp_path, monkeypatch, module, suffix):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    path = tmp_path / f"a.{suffix}"
    path.touch()
    with refused(f"{path}: reading", f"needs {module}; pip install", f"[{suffix}]"):
        lfads.prepare(path, tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.csv", "", ["is empty; expected a header"]),
        ("a.csv", "1,2\n3,4\n", ["its first row is 1, 2; expected the names of the columns"]),
        (
            "a.csv",
            "unit,time\n1,0.5\n2\n",
            ["time: cannot be read (", "rows as long as"],
        ),
        (
            "a.csv",
            "unit,when\n1,0.5\n",
            ["found unit, when; expected the time of a spike"],
        ),
        ("a.csv", "unit,time\n1,soon\n", ["time is not a number in every row"]),
        ("a.csv", "unit,time\n1,0.1\n", ["contains no trials; give a trial table"]),
        ("a.xls", "", [".xls is no known format; expected one of .nwb"]),
        ("a.npz", "x", ["cannot be read (", "expected a .npz file"]),
        ("a.mat", "x", ["not a .mat file of version 5 or 7.3"]),
        ("a.mat", "MATLAB 5.0 MAT-file, nothing behind it", ["cannot be read (", "damaged"]),
    ],
)
def test_files_that_are_no_recordings(tmp_path, name, text, parts):
    path = tmp_path / name
    path.write_text(text)
    with refused(f"{path}", *parts):
        lfads.prepare(path, tmp_path / "out", bin_width_s=0.1)


def test_tables_that_do_not_fit(tmp_path):
    rows = {"time": np.full(9, 0.25), "unit": np.arange(9) % 3, "trial": np.array([1, 2, 7] * 3)}
    (tmp_path / "trials.csv").write_text("trial,cue\n1,0.5\n2,0.6\n")
    with refused("spikes of trial 7, which the trial table does not have; expected one of 1, 2"):
        prepare(tmp_path, rows, trials=str(tmp_path / "trials.csv"), bin_width_s=0.1)
    (tmp_path / "hand.csv").write_text("time,x\n0.2,1\n0.1,2\n")
    path = npz(tmp_path / "day.npz")
    with refused(f"{tmp_path / 'hand.csv'}: hand: sample 1 is no later than the one before it"):
        lfads.prepare(path, tmp_path, behaviour_file=str(tmp_path / "hand.csv"), **WINDOW)
    with refused("behaviour y is no column of numbers", "found time, x"):
        lfads.prepare(
            path, tmp_path, behaviour_file=f"{tmp_path}/hand.csv", behaviour="y", **WINDOW
        )
    with refused("no such file; expected a table"):
        lfads.prepare(path, tmp_path, behaviour_file="{name}_nowhere.csv", **WINDOW)


def test_command_says_options_as_they_are_typed(tmp_path, capsys):
    path = npz(tmp_path / "day.npz")
    words = ["--out", str(tmp_path / "out"), "--bin-width-s", "0.02"]
    assert main([str(path), *words, "--align-to", "go_cue"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {path}: --align-to go_cue is not an event of the trials; did you"
    )
    assert len(error.splitlines()) == 1
    for wrong in (["--overlap-bins", "3"], ["--no-such"], []):
        paths = [str(path)] if wrong else [str(path), str(tmp_path / "sub" / "day.npz")]
        with pytest.raises(SystemExit) as end:
            main([*paths, *words, *wrong])
        assert end.value.code == 2
    assert "would both become day.h5" in capsys.readouterr().err


def test_memory_needs_a_name(tmp_path):
    with refused("give a name for the session (name=...)"):
        lfads.prepare({"counts": COUNTS}, tmp_path)
    with refused("found nothing; expected counts"):
        prepare(tmp_path, {})
    with refused("did you mean counts?", "expected counts_key to name"):
        prepare(tmp_path, counts_key="count")


@pytest.mark.parametrize("window", [None, (0.0, 0.3)])
@pytest.mark.parametrize("starts", [[], [np.nan, np.nan]])
def test_no_trial_with_its_event(tmp_path, starts, window):
    recording = {
        "spike_times": np.linspace(0, 4, 50),
        "spike_units": np.arange(50) % 2,
        "start_time": np.array(starts),
        "stop_time": np.array(starts) + 0.5,
    }
    with refused(f"none of the {len(starts)} trials has a time for start_time"):
        lfads.prepare(recording, tmp_path, name="a", bin_width_s=0.05, window_s=window)
