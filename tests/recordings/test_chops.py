"""Continuous recordings: chops cover them, and merging brings back what was cut."""

import h5py
import numpy as np
import pytest
from recordings import REC, UNIT_IDS, WIDTH, npz, write_nwb

import lfads_lightning as lfads
from lfads_lightning.cli.merge import main as merge_main
from lfads_lightning.cli.prepare import main as prepare_main
from lfads_lightning.data.session_files import read_session
from lfads_lightning.recordings.chops import merge, plan_chops, read_places


@pytest.mark.parametrize("seed", range(5))
def test_chops_cover_every_bin_of_long_pieces(seed):
    rng = np.random.default_rng(seed)
    chop, overlap = int(rng.integers(5, 40)), 0
    overlap = int(rng.integers(0, chop))
    pieces = rng.integers(1, 200, 6)
    plan = plan_chops(pieces, chop, overlap)
    long = pieces[pieces >= chop]
    assert plan.n_recording_bins == long.sum()
    np.testing.assert_array_equal(pieces[plan.kept], long)
    covered = np.zeros(plan.n_recording_bins, int)
    for start in plan.starts:
        covered[start : start + chop] += 1
        piece = np.searchsorted(plan.segment_starts, start, side="right") - 1
        end = plan.segment_starts[piece] + long[piece]
        assert start + chop <= end  # no chop lies in two pieces
    assert (covered > 0).all()
    steps = np.diff(plan.starts)
    assert (steps > 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(("chop", "overlap"), [(20, 0), (20, 7), (20, 19), (33, 16)])
def test_merging_what_was_cut_returns_it_exactly(dtype, chop, overlap):
    whole = (100 * np.random.default_rng(0).normal(size=(217, 3))).astype(dtype)
    plan = plan_chops(np.array([217]), chop, overlap)
    chops = np.stack([whole[s : s + chop] for s in plan.starts])
    order = np.random.default_rng(1).permutation(len(chops))
    merged = merge(chops[order], plan.starts[order], 217, overlap)
    np.testing.assert_array_equal(merged, whole)


def test_overlaps_are_blended_by_the_distance_to_the_ends():
    ones = np.array([np.zeros(10), np.ones(10)])[:, :, None]
    merged = merge(ones, np.array([0, 6]), 16, 4)[:, 0]
    np.testing.assert_allclose(merged, [0] * 6 + [0.2, 0.4, 0.6, 0.8] + [1] * 6)
    assert np.isnan(merge(ones[:1], np.array([3]), 16, 4)[:3]).all()


def test_recording_is_chopped_and_merged_back(tmp_path):
    path = lfads.prepare(
        npz(tmp_path / "day.npz"), tmp_path, bin_width_s=WIDTH, chop_bins=50, overlap_bins=15
    )
    session = read_session(path)
    assert session.valid is not None
    merged = lfads.merge_chops(path, train=session.train.data, valid=session.valid.data)
    places = read_places(path)
    begin = np.floor(min(t[0] for t in REC.times) / WIDTH) * WIDTH
    edges = begin + np.arange(places.n_recording_bins + 1) * WIDTH
    expected = np.stack([np.histogram(t, edges)[0] for t in REC.times], axis=1)
    assert expected.sum() == sum(map(len, REC.times))  # no spike is left out
    np.testing.assert_array_equal(merged, expected)
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["segment_starts_s"][()], [begin])
        times = begin + file["train_chop_starts"][()] * WIDTH
        np.testing.assert_allclose(file["train_event_times_s"][()], times)
    part = lfads.merge_chops(path, train=session.train.data)
    assert np.isnan(part).any()
    np.testing.assert_array_equal(part[np.isfinite(part)], expected[np.isfinite(part)])


def test_overlapping_chops_validate_in_groups(tmp_path):
    """Neighbours share bins: few train chops touch a valid one."""
    path = lfads.prepare(
        npz(tmp_path / "day.npz"), tmp_path, bin_width_s=WIDTH, chop_bins=40, overlap_bins=30
    )
    with h5py.File(path) as file:
        valid, train = file["valid_inds"][()], file["train_inds"][()]
    n = len(valid) + len(train)
    borders = sum(np.isin([v - 1, v + 1], train).any() for v in valid)
    assert n > 150
    assert borders <= len(valid) / 4
    assert abs(len(valid) / n - 0.2) < 0.05


def test_pieces_between_gaps_are_chopped_apart(tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = write_nwb(tmp_path / "day.nwb", REC, invalid=[(10.0, 12.5), (13.0, 14.0)])
    made = lfads.prepare(path, tmp_path, bin_width_s=WIDTH, chop_bins=100, recording_s=(0, 39))
    with h5py.File(made) as file:
        np.testing.assert_allclose(file["segment_starts_s"][()], [0, 14])
        assert file["segment_starts"][()].tolist() == [0, 500]
        assert file["n_recording_bins"][()] == 500 + 1250
        assert file["left_out"].asstr()[()].tolist() == ["1 pieces shorter than a chop"]
        session = read_session(made)
        assert session.valid is not None
        merged = lfads.merge_chops(made, train=session.train.data, valid=session.valid.data)
    edges = 14 + np.arange(1251) * WIDTH
    expected = np.stack([np.histogram(t, edges)[0] for t in REC.times], axis=1)
    np.testing.assert_array_equal(merged[500:], expected)


def test_gaps_of_binned_recordings(tmp_path):
    values = np.random.default_rng(0).poisson(1.0, (300, 3)).astype(float)
    values[100:120] = np.nan
    arrays = {"counts": values, "bin_s": 0.01, "speed": np.arange(300.0)}
    path = lfads.prepare(
        arrays, tmp_path, name="x", chop_bins=40, overlap_bins=10, behaviour="speed"
    )
    with h5py.File(path) as file:
        assert file["segment_starts"][()].tolist() == [0, 100]
        np.testing.assert_allclose(file["segment_starts_s"][()], [0, 1.2])
        speed = {s: file[f"{s}_behaviour"][()] for s in ("train", "valid")}
    kept = np.r_[0:100, 120:300]
    np.testing.assert_array_equal(lfads.merge_chops(path, **speed)[:, 0], kept)


def test_outputs_of_a_run_are_merged(call, tmp_path, capsys):
    npz(tmp_path / "day.npz")
    words = "--bin-width-s 0.05 --chop-bins 40 --overlap-bins 8"
    assert prepare_main([str(tmp_path / "day.npz"), "--out", str(tmp_path), *words.split()]) == 0
    run = f"output.lfads_save_dir={tmp_path / 'run'}"
    data = [
        f"data.data_dir={tmp_path}",
        "data.data_filename_stem=day",
        "trainer.device=cpu:0",
        "recipe=original",
    ]
    small = ["model=small", "trainer.max_epochs=1"]
    assert call(*data, *small, run).code == 0
    assert call("kind=posterior_push_mean", run).code == 0
    capsys.readouterr()
    merge_main([str(tmp_path / "run")])
    path = tmp_path / "run" / "model_runs_day_merged_posterior_push_mean.h5"
    assert capsys.readouterr().out.strip() == str(path)
    places = read_places(tmp_path / "day.h5")
    with h5py.File(path) as file, h5py.File(tmp_path / "day.h5") as session:
        rates = file["output_dist_params"][()]
        assert rates.shape == (places.n_recording_bins, len(UNIT_IDS))
        assert np.isfinite(rates).all()
        assert file["bin_width_s"][()] == 0.05
        assert file["output_dist_params"].attrs["units"] == "expected counts per bin"
        first = 0  # the earliest training chop
        with h5py.File(path.with_name("model_runs_day_train_posterior_push_mean.h5")) as train:
            own = train["output_dist_params"][first]
        start = int(session["train_chop_starts"][first])
        np.testing.assert_array_equal(rates[start + 8 : start + 32], own[8:32])
    # names are those of the results; the session may have its neurons in another order, not others
    for ids, code in ((UNIT_IDS[::-1], None), ([*UNIT_IDS[:-1], 99], 2)):
        with h5py.File(tmp_path / "day.h5", "a") as session:
            session["neuron_ids"][...] = ids
        if code is None:
            merge_main([str(tmp_path / "run")])
            with h5py.File(path) as file:
                assert file["neuron_ids"][()].tolist() == UNIT_IDS
            continue
        with pytest.raises(SystemExit, match="2"):
            merge_main([str(tmp_path / "run")])
        assert "its neuron_ids is not that of" in capsys.readouterr().err
    with h5py.File(tmp_path / "day.h5", "a") as session:
        session["neuron_ids"][...] = UNIT_IDS
    # outputs of a part of the trials do not fit
    assert call("kind=posterior_push_mean", run, "sampling.ps_nexamples_to_process=2").code == 0
    with pytest.raises(SystemExit, match="2"):
        merge_main([str(tmp_path / "run")])
    assert "2 trials, the data have" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        merge_main([str(tmp_path / "run"), "--kind", "posterior_sample_and_average"])
    assert "posterior_sample_and_average" in capsys.readouterr().err


def test_data_may_have_moved(call, tmp_path, capsys):
    """--data names where the session files are now."""
    counts = np.random.default_rng(0).poisson(1.0, (200, 3))
    path = lfads.prepare({"counts": counts}, tmp_path / "old", name="x", chop_bins=20)
    session = read_session(path)
    assert session.valid is not None
    settings = {
        "max_epochs": 1,
        "gen_dim": 8,
        "device": "cpu:0",
        "recipe": "original",
        "lfads_save_dir": f"{tmp_path}/run",
    }
    trained = lfads.fit(session.train.data, valid_data=session.valid.data, **settings)
    words = [
        f"data.data_dir={path.parent}",
        "data.data_filename_stem=x",
        "trainer.device=cpu:0",
        "recipe=original",
    ]
    folder = f"output.lfads_save_dir={trained.folder}"
    assert call("kind=posterior_push_mean", folder, *words).code == 0
    with pytest.raises(SystemExit, match="2"):
        merge_main([str(trained.folder)])
    assert "name the session files with --data" in capsys.readouterr().err
    merge_main([str(trained.folder), "--data", str(path.parent)])


def test_merging_refuses(tmp_path):
    counts = np.ones((10, 5, 2))
    plain = lfads.write_session(tmp_path / "a.h5", train_data=counts)
    with pytest.raises(lfads.LFADSError, match="a.h5: train_chop_starts is missing: its trials"):
        lfads.merge_chops(plain, train=counts)
    path = lfads.prepare({"counts": np.ones((50, 2))}, tmp_path, name="x", chop_bins=5)
    with pytest.raises(lfads.LFADSError, match="train is of shape .*; expected 8 chops × 5 bins"):
        lfads.merge_chops(path, train=counts)
    with pytest.raises(lfads.LFADSError, match="has no split 'test'; expected one of train, valid"):
        lfads.merge_chops(path, test=counts)
    with pytest.raises(lfads.LFADSError, match="needs results"):
        lfads.merge_chops(path)
