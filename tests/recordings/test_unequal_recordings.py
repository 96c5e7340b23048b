"""Trials of unequal length, from every reader: their counts, their lengths, what is behind."""

import h5py
import numpy as np
import pytest
from recordings import REC, npz, write_mat73
from scipy.io import savemat
from scipy.sparse import csc_matrix

import lfads_lightning as lfads
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.readers import read_file
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.trials import cut_trials

RNG = np.random.default_rng(0)
RATES = RNG.uniform(0.3, 3, 12)
LENGTHS = RNG.integers(10, 20, 15)
TRIALS = [RNG.poisson(RATES, (n, 12)) for n in LENGTHS]  # bins × neurons


def cut(path, **options):
    settings = Settings(**options)
    return cut_trials(read_file(path, settings), settings)


def check(found, trials=TRIALS):
    assert found.lengths.tolist() == [len(t) for t in trials]
    counts = found.counts(np.arange(len(trials)))
    assert counts.shape == (len(trials), max(map(len, trials)), 12)
    for own, expected in zip(counts, trials, strict=True):
        np.testing.assert_array_equal(own[: len(expected)], expected)
        assert (own[len(expected) :] == 0).all()
    assert (found.n_entries == sum(map(len, trials))).all()


def as_structure(trials, name="spikes", sparse=False):
    """A structure array as GPFA and DataHigh have it: neurons × bins in each trial."""
    rows = np.zeros(
        (1, len(trials)), [("trialId", "O"), (name, "O"), ("condition", "O"), ("hand", "O")]
    )
    for k, counts in enumerate(trials):
        turned = counts.T.astype(float)
        rows[0, k]["trialId"] = k + 1.0
        rows[0, k][name] = csc_matrix(turned) if sparse else turned
        rows[0, k]["condition"] = "left" if k % 2 else "right"
        rows[0, k]["hand"] = np.tile(np.arange(len(counts)), (2, 1)) + 1.0
    return rows


@pytest.mark.parametrize(
    ("name", "sparse"), [("spikes", False), ("data", False), ("spikeRaster", True)]
)
def test_structures_of_trials(tmp_path, name, sparse):
    savemat(tmp_path / "a.mat", {"D": as_structure(TRIALS, name, sparse)})
    found = cut(tmp_path / "a.mat", behaviour=("hand",))
    check(found)
    assert found.per_trial["condition"][:3].tolist() == ["right", "left", "right"]
    assert found.per_trial["trialId"].tolist() == list(range(1, 16))
    hand = found.per_trial["hand"]
    assert hand.shape == (15, max(LENGTHS), 2)
    assert hand[0, : LENGTHS[0], 1].tolist() == list(range(1, LENGTHS[0] + 1))
    assert not hand[0, LENGTHS[0] :].any()


def test_structures_of_version_73_and_two_of_a_name(tmp_path):
    cells, turned = np.empty((1, 15), object), np.empty((1, 15), object)
    cells[0, :], turned[0, :] = (
        [t.astype(float) for t in TRIALS],
        [t.T.astype(float) for t in TRIALS],
    )
    check(cut(write_mat73(tmp_path / "a.mat", {"counts": cells})))
    path = write_mat73(tmp_path / "b.mat", {"D": {"data": turned}, "other": {"data": turned}})
    check(cut(path, counts_key="D.data"))
    with pytest.raises(LFADSError, match="D.data, other.data may hold the counts; .*=D.data"):
        cut(path)


def test_structures_of_equal_trials_are_neurons_by_bins(tmp_path):
    """Also where their shapes cannot tell; by their values, or else as they usually are."""
    equal = [RNG.poisson(RATES, (40, 12)) for _ in range(15)]
    savemat(tmp_path / "a.mat", {"D": as_structure(equal)})
    found = cut(tmp_path / "a.mat")
    assert found.lengths is None
    np.testing.assert_array_equal(found.counts(np.arange(15)), np.stack(equal))
    savemat(tmp_path / "a.mat", {"D": as_structure([t.T for t in equal])})
    np.testing.assert_array_equal(cut(tmp_path / "a.mat").counts(np.arange(15)), np.stack(equal))
    alike = [RNG.poisson(1.0, (40, 12)) for _ in range(15)]
    savemat(tmp_path / "a.mat", {"D": as_structure(alike)})
    with pytest.warns(UserWarning, match=r"read as neurons × bins \(12 × 40\).*give axes="):
        found = cut(tmp_path / "a.mat")
    np.testing.assert_array_equal(found.counts(np.arange(15)), np.stack(alike))
    found = cut(tmp_path / "a.mat", axes=("trials", "neurons", "bins"))
    np.testing.assert_array_equal(found.counts(np.arange(15)), np.stack(alike))


def test_units_in_trials_of_an_r_struct(tmp_path):
    """R(trial).unit(k).spikeTimes, in ms from the trial's beginning."""
    times = [
        [np.sort(RNG.uniform(0, 500, RNG.integers(0, 9))) for _ in range(3)] for _ in range(14)
    ]
    rows = np.zeros((1, 14), [("unit", "O"), ("timeGo", "O")])
    for k, trial in enumerate(times):
        units = np.zeros((1, 3), [("spikeTimes", "O"), ("elec", "O")])
        for d in range(3):
            units[0, d]["spikeTimes"], units[0, d]["elec"] = trial[d], d + 5.0
        rows[0, k]["unit"], rows[0, k]["timeGo"] = units, 100.0 + k
    savemat(tmp_path / "R.mat", {"R": rows})
    options = {"bin_width_s": 0.05, "time_unit": "ms", "window_s": (0.0, 0.3)}
    found = cut(tmp_path / "R.mat", align_to="R.timeGo", **options)
    assert set(cut(tmp_path / "R.mat", align_to="timeGo", **options).per_trial) >= {"timeGo"}
    expected = [
        [np.histogram(t - 100 - k, np.arange(0, 301, 50))[0] for t in trial]
        for k, trial in enumerate(times)
    ]
    np.testing.assert_array_equal(found.counts(np.arange(14)), np.swapaxes(expected, 1, 2))


def test_structures_with_an_empty_trial_and_other_fields_of_time(tmp_path):
    """As GPFA has them: T is the length of a trial, time that of its bins; [] was not recorded."""
    rows = np.zeros((1, 15), [(name, "O") for name in ("spikes", "T", "time", "hand", "rt")])
    for k, counts in enumerate(TRIALS):
        rows[0, k]["spikes"] = counts.T.astype(float) if k != 4 else np.zeros((0, 0))
        rows[0, k]["T"], rows[0, k]["rt"] = float(len(counts)), 100.0 * k
        rows[0, k]["time"] = np.arange(float(len(counts)))[None]
        rows[0, k]["hand"] = np.ones((2, len(counts))) if k != 4 else np.zeros((0, 0))
    savemat(tmp_path / "a.mat", {"seq": rows})
    recorded = [t for k, t in enumerate(TRIALS) if k != 4]
    found = cut(tmp_path / "a.mat")
    check(found, recorded)
    assert found.per_trial["hand"].shape == (14, max(map(len, recorded)), 2)
    assert found.notes == ["1 trials in which nothing was recorded (NaN counts)"]
    check(cut(tmp_path / "a.mat", where="seq.rt > 450"), recorded[4:])
    for k in range(15):
        rows[0, k]["spikes"] = np.zeros((0, 0))
    savemat(tmp_path / "a.mat", {"seq": rows})
    with pytest.raises(LFADSError, match=r"seq.spikes is empty in each of 15 trials"):
        cut(tmp_path / "a.mat", counts_key="seq.spikes")


def test_cells_of_spike_times_in_cells(tmp_path):
    """R(trial).spikeTimes{k}, and spikes{k}{trial}; turned cells are known by their conditions."""
    times = [[np.sort(RNG.uniform(0, 1, RNG.integers(0, 9))) for _ in range(3)] for _ in range(14)]
    expected = [[np.histogram(t, np.arange(5) / 4)[0] for t in trial] for trial in times]
    expected = np.swapaxes(expected, 1, 2)

    def cells(items):
        made = np.empty((1, len(items)), object)
        made[0] = [cells(item) if isinstance(item, list) else item[None] for item in items]
        return made

    rows = np.zeros((1, 14), [("spikeTimes", "O"), ("side", "O")])
    for k, trial in enumerate(times):
        rows[0, k]["spikeTimes"], rows[0, k]["side"] = cells(trial), "lr"[k % 2]
    savemat(tmp_path / "R.mat", {"R": rows})
    options = {"bin_width_s": 0.25, "window_s": (0.0, 1.0)}
    found = cut(tmp_path / "R.mat", **options)
    np.testing.assert_array_equal(found.counts(np.arange(14)), expected)
    assert found.per_trial["side"][:3].tolist() == ["l", "r", "l"]
    by_unit = [[trial[d] for trial in times] for d in range(3)]
    for write in (savemat, write_mat73):
        write(tmp_path / "a.mat", {"spikes": cells(by_unit)})
        found = cut(tmp_path / "a.mat", **options)
        np.testing.assert_array_equal(found.counts(np.arange(14)), expected)
    flat = np.empty((14, 3), object)
    for k, trial in enumerate(times):
        flat[k] = trial
    savemat(tmp_path / "a.mat", {"spike_times": flat, "condition": np.arange(14) % 2})
    with pytest.raises(LFADSError, match="14×3 cells, and condition has an entry for each row"):
        cut(tmp_path / "a.mat", **options)


def test_sparse_matrices(tmp_path):
    counts = RNG.poisson(0.2, (60, 5))
    savemat(tmp_path / "a.mat", {"counts": csc_matrix(counts.astype(float))})
    found = cut(tmp_path / "a.mat", chop_bins=10)
    np.testing.assert_array_equal(found.counts(np.arange(6)).reshape(60, 5), counts)


def test_bins_are_joined_to_each_trial_s_last_whole_one(tmp_path):
    savemat(tmp_path / "a.mat", {"D": as_structure(TRIALS)})
    found = cut(tmp_path / "a.mat", source_bin_width_s=0.001, bin_width_s=0.004)
    check(found, [t[: len(t) // 4 * 4].reshape(-1, 4, 12).sum(1) for t in TRIALS])
    found = cut(tmp_path / "a.mat", source_bin_width_s=0.001, window_s=(0, 0.015))
    assert found.lengths is None
    assert found.numbers.tolist() == np.flatnonzero(LENGTHS >= 15).tolist()
    assert found.notes == [f"{(LENGTHS < 15).sum()} trials that do not cover the window"]


def test_whole_trials_of_spike_times(tmp_path):
    stop = REC.stop + np.linspace(0, 0.3, len(REC.stop)) + 1e-3
    found = cut(npz(tmp_path / "a.npz", trial_stop=stop), bin_width_s=0.02, behaviour=("hand_vel",))
    lengths = np.floor((stop - REC.start) / 0.02 + 1e-6).astype(int)
    assert found.lengths.tolist() == lengths.tolist()
    assert found.constants["window_s"] == [0, lengths.max() * 0.02]
    counts = found.counts(np.arange(len(stop)))
    for e in (0, 10, 23):
        edges = REC.start[e] + 0.02 * np.arange(lengths[e] + 1)
        for d, times in enumerate(REC.times):
            expected = np.histogram(times, edges)[0]
            np.testing.assert_array_equal(counts[e, : lengths[e], d], expected)
        assert not counts[e, lengths[e] :].any()
        assert found.per_trial["behaviour"][e, : lengths[e]].all()
        assert not found.per_trial["behaviour"][e, lengths[e] :].any()
    stop[[2, 5]] = np.nan
    found = cut(npz(tmp_path / "a.npz", trial_stop=stop), bin_width_s=0.02)
    assert found.lengths.tolist() == np.delete(lengths, [2, 5]).tolist()
    assert found.notes == ["2 trials without a stop_time"]
    stop[:] = np.nan
    with pytest.raises(LFADSError, match="no trial has a stop_time; expected seconds; mend it, or"):
        cut(npz(tmp_path / "a.npz", trial_stop=stop), bin_width_s=0.02)
    assert cut(
        npz(tmp_path / "a.npz"), bin_width_s=0.02, align_to="trial_start", window_s=(0, 0.5)
    ).n_bins == 25  # fmt: skip


def test_a_session_file_holds_them_and_a_model_trains_on_them(tmp_path):
    path = npz(tmp_path / "a.npz", trial_stop=REC.stop + np.linspace(0, 0.3, len(REC.stop)))
    prepared = lfads.prepare(path, tmp_path, bin_width_s=0.02)
    with h5py.File(prepared) as file:
        lengths = np.concatenate([file["train_lengths"][()], file["valid_lengths"][()]])
    assert (lengths.min(), lengths.max()) == (50, 65)
    trained = lfads.fit(
        prepared, lfads_save_dir=tmp_path / "run", recipe="original", max_epochs=1,
        gen_dim=6, ic_enc_dim=5, ci_enc_dim=5, con_dim=5, factors_dim=2, ic_dim=3, report=False,
        device="cpu:0",
    )  # fmt: skip
    assert trained.scores["epochs"] == 1


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([np.ones((5, 3)), np.ones((7, 4))], "its trials have from 3 to 4 neurons"),
        ([np.ones((0, 3)), np.ones((0, 3))], "counts is empty .2×0×3.; expected counts"),
        ([np.ones((5, 3)), np.ones(5)], "cell array of other things than bins × neurons"),
        ([np.ones((5, 3)), np.array([["a"] * 3])], "counts .*str|counts .*<U1|numbers"),
    ],
)
def test_trials_that_do_not_fit(tmp_path, trials, said):
    with pytest.raises(LFADSError, match=said):
        lfads.prepare({"counts": trials}, tmp_path, name="a")


@pytest.mark.filterwarnings("ignore:.*the mask hides:UserWarning")
def test_nan_says_what_is_missing(tmp_path):
    """Padding ends trials; other gaps are masked; what was never recorded is left out."""
    padded = np.full((15, max(LENGTHS), 12), np.nan)
    for row, trial in zip(padded, TRIALS, strict=True):
        row[: len(trial)] = trial
    ways = {"padded": padded, "list": TRIALS, "masked": np.ma.masked_invalid(padded),
            "some_masked": [np.ma.masked_array(t, False) for t in TRIALS]}  # fmt: skip
    for name, value in ways.items():
        session = lfads.read_session(lfads.prepare(value, tmp_path, name=name, valid_fraction=0))
        np.testing.assert_array_equal(session.train.lengths, LENGTHS)
        assert session.train.mask is None
        assert session.train.data.dtype == np.uint8
    gone = np.zeros(padded.shape, bool)
    gone[3, :, 5], gone[4, 2:5], gone[6], gone[..., 8] = True, True, True, True
    gone[7, LENGTHS[7] - 1] = True  # not where the trial ends, as it has a window
    holed = np.where(gone, np.nan, padded)
    np.save(tmp_path / "holed.npy", holed)
    path = lfads.prepare(
        tmp_path / "holed.npy", tmp_path, source_bin_width_s=0.01, window_s=(0, 0.1),
        valid_fraction=0, min_rate_hz=0.1,
    )  # fmt: skip
    session = lfads.read_session(path)
    rows, neurons = np.r_[:6, 7:15], np.r_[:8, 9:12]
    present = ~gone[:, :10][rows][..., neurons]
    np.testing.assert_array_equal(session.train.mask, present)
    there = np.where(present, padded[:, :10][rows][..., neurons], 0)
    np.testing.assert_array_equal(session.train.data, there)
    assert session.train.lengths is None or (session.train.lengths == 10).all()
    with h5py.File(path) as file:
        left_out = file["left_out"].asstr()[()].tolist()
    assert left_out == [
        "1 trials in which nothing was recorded (NaN counts)",
        "1 neurons that were never recorded (NaN counts): 8",
    ]


def test_rates_of_neurons_are_of_the_bins_in_which_they_were_recorded(tmp_path):
    """A neuron that is there in a tenth of the trials is not a tenth as fast."""
    counts = RNG.poisson(1.0, (20, 30, 4)).astype(float)
    counts[2:, :, 1] = np.nan
    made = lfads.prepare(
        counts, tmp_path, name="a", source_bin_width_s=0.1, min_rate_hz=5, valid_fraction=0
    )
    assert lfads.read_session(made).neuron_ids.tolist() == [0, 1, 2, 3]


def test_a_channel_that_is_missing_does_not_break_a_recording(tmp_path):
    counts = RNG.poisson(1.0, (100, 4)).astype(float)
    counts[10:60, 1] = np.nan  # of one channel
    counts[70:75] = np.nan  # of all
    session = lfads.read_session(
        lfads.prepare(counts, tmp_path, name="a", chop_bins=20, valid_fraction=0)
    )
    assert session.train.data.shape == (6, 20, 4)
    assert session.train.mask[:, :, 1].sum() == 60
    assert (session.train.mask[..., 0] == 1).all()
