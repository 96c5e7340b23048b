"""Times that run backwards, events at one time, and trials that are left out: how many, and why."""

import numpy as np
import pytest
from recordings import REC, UNIT_IDS, WIDTH, Recording, npz, write_nwb
from scipy.io import savemat

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main as prepare_main
from lfads_lightning.config import LFADSError

WINDOW = {"bin_width_s": WIDTH, "align_to": "go_cue_time", "window_s": (-0.2, 0.4)}


def restarted(times, at):
    """Return times of a clock that starts again half way."""
    return np.where(times < at, times, times - at)


def write_rows(path, times):
    unit = np.repeat(UNIT_IDS, [len(t) for t in times])
    order = np.argsort(np.concatenate([np.arange(len(t)) for t in times]), kind="stable")
    rows = np.concatenate(times)[order], unit[order]
    if path.suffix == ".npz":
        return npz(path, spike_times=rows[0], spike_units=rows[1])
    text = "\n".join(f"{t},{u}" for t, u in zip(*rows, strict=True))
    path.write_text(f"time,unit\n{text}\n")
    table = path.with_name("trials.csv")
    lines = [f"{a},{b},{c}" for a, b, c in zip(REC.start, REC.stop, REC.go, strict=True)]
    table.write_text("start_time,stop_time,go_cue_time\n" + "\n".join(lines))
    return path


def write_mat(path, times):
    cells = np.empty((1, len(times)), object)
    cells[0, :] = times
    savemat(path, {"spike_times": cells, "trial_start": REC.start, "trial_stop": REC.stop,
                   "go_cue_time": REC.go})  # fmt: skip
    return path


def write_as_nwb(path, times):
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    recording = Recording()
    recording.times = times
    return write_nwb(path, recording)


READERS = {"a.npz": write_rows, "a.csv": write_rows, "a.mat": write_mat, "a.nwb": write_as_nwb}


@pytest.mark.parametrize("name", READERS)
def test_a_clock_that_starts_again(tmp_path, name):
    more = {"trials": str(tmp_path / "trials.csv")} if name == "a.csv" else {}
    half = REC.end / 2
    whole = READERS[name](tmp_path / name, [restarted(t, half) for t in REC.times])
    told = "spike times of 6 of 6 units run backwards: unit .* 1 times, first from"
    with pytest.raises(LFADSError, match=f"{told}.*expected one clock for the whole recording"):
        lfads.prepare(whole, tmp_path, **WINDOW, **more)
    one = [restarted(t, half) if d == 2 else t for d, t in enumerate(REC.times)]
    path = READERS[name](tmp_path / name, one)
    with pytest.warns(UserWarning, match="spike times of 1 of 6 units run backwards.*check units"):
        lfads.prepare(path, tmp_path, **WINDOW, **more)


def test_trials_whose_clock_starts_again(tmp_path):
    for key in ("trial_start", "go_cue_time"):
        times = {"trial_start": REC.start, "go_cue_time": REC.go}[key].copy()
        times[20:] -= 0.99 * times[20] - 1
        path = npz(tmp_path / "a.npz", **{key: times, "trial_stop": np.full(24, 1e3)})
        name = "start_time" if key == "trial_start" else key
        with pytest.warns(UserWarning, match=f"{name} runs backwards 1 times, first in trial 20"):
            lfads.prepare(path, tmp_path, **(WINDOW | {"align_to": name, "window_s": (0, 0.4)}))


def test_trials_that_end_before_they_begin(tmp_path):
    stop = REC.stop.copy()
    stop[[3, 5]] = 0
    path = npz(tmp_path / "a.npz", trial_stop=stop)
    with pytest.warns(UserWarning, match="2 trials end before they start, first trial 3"):
        lfads.prepare(path, tmp_path, **WINDOW)


def test_unit_observed_backwards(tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = write_nwb(tmp_path / "a.nwb", REC, invalid=[(5.0, 4.0)])
    with pytest.raises(LFADSError, match="invalid_times: interval 0 is from 5 to 4"):
        lfads.prepare(path, tmp_path, **WINDOW)


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (np.zeros(24) + 10, "24 of 24 trials have their go_cue_time at nearly the same time"),
        (np.where(np.arange(24) < 20, 10.0, REC.go), "20 of 24 trials have their go_cue_time"),
        (10 + REC.go - REC.start, "trials have their go_cue_time at nearly the same time"),
    ],
)
def test_events_at_one_time(tmp_path, events, text):
    path = npz(tmp_path / "a.npz", go_cue_time=events, trial_start=np.zeros(24),
               trial_stop=np.full(24, REC.end))  # fmt: skip
    with pytest.raises(LFADSError, match=text):
        lfads.prepare(path, tmp_path, **WINDOW)


def test_events_counted_from_each_trials_start(tmp_path):
    path = npz(tmp_path / "a.npz", go_cue_time=REC.go - REC.start)
    with pytest.raises(LFADSError, match="outside its own trial in 2. of 24 .* add start_time"):
        lfads.prepare(path, tmp_path, **WINDOW)


def test_why_trials_are_left_out(tmp_path, capsys):
    """Each reason with its number, when it succeeds and when too few are left."""
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    recording = Recording()
    recording.go = recording.go.copy()
    recording.go[0] = np.nan
    until = REC.go[20]
    path = write_nwb(tmp_path / "a.nwb", recording, invalid=[(REC.go[3] - 0.1, REC.go[4] + 0.1)])
    words = [str(path), "--out", str(tmp_path), "--bin-width-s", str(WIDTH), "--align-to",
             "go_cue_time", "--window-s", "-0.2", "0.4", "--recording-s", "0"]  # fmt: skip
    assert prepare_main([*words, f"{until}"]) == 0
    out = capsys.readouterr().out
    for why in ("left out: 1 trials without the event go_cue_time",
                f"left out: 4 trials outside the recording (0 to {until:.6g} s)",
                "left out: 2 trials in a gap of the recording (invalid_times)"):  # fmt: skip
        assert why in out
    assert prepare_main([*words, f"{REC.go[1] + 0.5}"]) == 1
    error = capsys.readouterr().err
    assert "1 trials are too few for a train split (left out: 1 trials without the event" in error
    assert "22 trials outside the recording" in error


def test_cells_of_trials_by_neurons(tmp_path):
    """Rows are neurons: the numbers of their spikes differ, those of trials hardly."""
    rng = np.random.default_rng(0)
    rates = rng.lognormal(1.5, 0.8, 12)
    cells = np.empty((12, 30), object)
    for d, i in np.ndindex(cells.shape):
        cells[d, i] = np.sort(rng.uniform(0, 1, rng.poisson(rates[d])))
    window = {"bin_width_s": WIDTH, "window_s": (0, 1)}
    savemat(tmp_path / "a.mat", {"spike_times": cells})
    made = lfads.prepare(tmp_path / "a.mat", tmp_path, **window, min_rate_hz=0)
    assert lfads.read_session(made).data_dim == 12
    savemat(tmp_path / "a.mat", {"spike_times": cells.T})
    with pytest.raises(LFADSError, match="30×12 cells.*if it is trials × neurons, turn it"):
        lfads.prepare(tmp_path / "a.mat", tmp_path, **window, min_rate_hz=0)


def test_why_pieces_and_bins_are_left_out(tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, (100, 4)).astype(float)
    counts[10] = np.nan
    made = lfads.prepare({"counts": counts}, tmp_path, name="a", chop_bins=20)
    import h5py

    with h5py.File(made) as file:
        told = file["left_out"].asstr()[()].tolist()
    assert told == ["1 bins with gaps (NaN counts)", "1 pieces shorter than a chop"]
