"""Trials cut out of a continuous recording of counts or real values, by a table of their times."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

import lfads_lightning as lfads
from lfads_lightning.config import LFADSError

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(RNG.uniform(0.3, 3, 6), (1000, 6))
STARTS = np.array([0.5, 2.0, 3.51, 5.0, 7.0, 9.8])
STOPS = STARTS + [1.0, 1.2, 0.8, 1.0, 0.9, 0.1]
GO = STARTS + 0.3
GO[2] = np.nan
SIDE = np.array(["left", "right"] * 3)
TABLE = {"start_time": STARTS, "stop_time": STOPS, "go": GO, "side": SIDE}
WINDOW = {"align_to": "go", "window_s": (-0.2, 0.4)}
HOW = {"source_bin_width_s": 0.01, "valid_fraction": 0}


def csv(path):
    rows = ["start_time,stop_time,go,side"]
    rows += [",".join(map(str, row)) for row in zip(*TABLE.values(), strict=True)]
    path.write_text("\n".join(rows))
    return str(path)


def test_windows_around_events(tmp_path):
    np.save(tmp_path / "a.npy", COUNTS)
    made = lfads.prepare(
        tmp_path / "a.npy", tmp_path, trials=csv(tmp_path / "t.csv"), condition="side",
        bin_width_s=0.02, **HOW | WINDOW,
    )  # fmt: skip
    train = lfads.read_session(made).train
    kept = [0, 1, 3, 4]
    firsts = np.rint((GO[kept] - 0.2) * 100).astype(int)
    expected = [COUNTS[i : i + 60].reshape(30, 2, 6).sum(1) for i in firsts]
    np.testing.assert_array_equal(train.data, expected)
    assert train.condition.tolist() == ["left", "right", "right", "left"]
    with h5py.File(made) as file:
        assert file["left_out"].asstr()[()].tolist() == [
            "1 trials without the event go",
            "1 trials outside the recording (0 to 10 s)",
        ]
        np.testing.assert_allclose(file["train_event_times_s"], GO[kept])
        assert file["train_inds"][()].tolist() == kept
        np.testing.assert_allclose(file["window_s"], [-0.2, 0.4])


@pytest.mark.parametrize("kind", ["npy", "npz", "mat", "csv", "memory"])
def test_whole_trials(tmp_path, kind):
    """Every reader of continuous counts; real values, too, and a gap."""
    values = COUNTS.astype(float)
    values[560:580, 1] = np.nan
    recording, how = tmp_path / f"a.{kind}", dict(HOW)
    how["trials"] = csv(tmp_path / "t.csv")
    if kind == "npy":
        np.save(recording, values)
    elif kind == "npz":
        np.savez(recording, counts=values, start_time=STARTS, stop_time=STOPS, go=GO)
        del how["trials"]
    elif kind == "mat":
        savemat(recording, {"counts": values})
    elif kind == "csv":  # its time does not begin at 0
        how["trials"] = {name: column + 7 for name, column in TABLE.items() if name != "side"}
        rows = [",".join(["time", *"abcdef"])]
        rows += [",".join(map(str, [7 + k / 100, *row])) for k, row in enumerate(values)]
        recording.write_text("\n".join(rows).replace("nan", ""))
    else:
        recording, how["trials"], how["name"] = values, TABLE, "a"
    session = lfads.read_session(lfads.prepare(recording, tmp_path, **how))
    n_bins = np.rint((STOPS - STARTS) * 100).astype(int)
    assert session.train.lengths.tolist() == n_bins.tolist()
    for k, (start, n) in enumerate(zip(np.rint(STARTS * 100).astype(int), n_bins, strict=True)):
        np.testing.assert_array_equal(
            session.train.data[k, :n], np.nan_to_num(values[start : start + n])
        )
        assert not session.train.data[k, n:].any()
    gone = session.train.mask == 0
    assert gone[3, 60:80, 1].all()
    assert (n_bins.sum() * 6 - session.train.mask.sum()) == 20


def test_what_cannot_be_is_refused(tmp_path):
    def refused(match, counts=COUNTS, **options):
        with pytest.raises(LFADSError, match=match):
            lfads.prepare(counts, tmp_path, name="x", **{"trials": TABLE} | HOW | options)

    refused("trials are cut by times; give source_bin_width_s", source_bin_width_s=None)
    refused("align_to=goo is not an event of the trials; did you mean go?", align_to="goo")
    refused("trials are aligned to go: give window_s", align_to="go")
    refused("every trial is outside the recording: start_time is from 500 to", trials={
        "start_time": STARTS * 1000, "stop_time": STOPS * 1000})  # fmt: skip
    refused("cut it into pieces with chop_bins, or into trials", trials=None)
    path = csv(tmp_path / "t.csv")
    refused("cut the recording in two ways", trials=path, chop_bins=50)
    refused("has 6 rows, the counts have 10 trials", COUNTS.reshape(10, 100, 6), trials=path)
    refused("behaviour_file is for spike times", behaviour_file=path)
    refused("recording_s is for spike times", recording_s=(0, 5))
