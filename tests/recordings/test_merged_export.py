"""A continuous recording: NWB with a gap, chops, a model, merged, and back into the NWB file."""

import h5py
import numpy as np
import pytest
from recordings import N_UNITS, REC, write_nwb

import lfads_lightning as lfads
from lfads_lightning.cli.export import main as export_main
from lfads_lightning.cli.merge import main as merge_main
from lfads_lightning.cli.prepare import main as prepare_main

pynwb = pytest.importorskip("pynwb", reason="needs the extra [nwb]")
GAP = np.array([[0.0, 15.0], [20.0, 35.0]])


@pytest.fixture
def run(call, tmp_path):
    write_nwb(tmp_path / "day.nwb", REC, obs_intervals=[GAP] * N_UNITS)
    words = "--bin-width-s 0.05 --chop-bins 40 --overlap-bins 8"
    assert prepare_main([f"{tmp_path}/day.nwb", "--out", str(tmp_path), *words.split()]) == 0
    folder = tmp_path / "run"
    data = [
        f"data.data_dir={tmp_path}",
        "data.data_filename_stem=day",
        "trainer.device=cpu:0",
        "recipe=original",
    ]
    saved = f"output.lfads_save_dir={folder}"
    assert call(*data, "model=small", "trainer.max_epochs=1", saved).code == 0
    assert call("kind=posterior_push_mean", saved).code == 0
    return folder


@pytest.mark.parametrize("given", [True, False], ids=["in the recording", "new file"])
def test_merged_results_are_one_series_on_the_recording_s_clock(run, tmp_path, capsys, given):
    merge_main([str(run)])
    recording = ["--nwb", str(tmp_path / "day.nwb")] if given else []
    capsys.readouterr()
    export_main([str(run), "--to", "nwb", *recording])
    path = run / "model_runs_day_posterior_push_mean.nwb"
    assert capsys.readouterr().out.strip() == str(path)
    assert not pynwb.validate(path=str(path))
    with (
        pynwb.NWBHDF5IO(str(path), "r") as io,
        h5py.File(run / "model_runs_day_merged_posterior_push_mean.h5") as merged,
    ):
        module = io.read().processing["lfads"]
        times = module["rates"].timestamps[:]
        np.testing.assert_array_equal(module["rates"].data[:], merged["output_dist_params"])
        assert module["rates"].conversion == pytest.approx(20)
        assert merged.attrs["train_step"] > 0
        assert "trials" not in module.data_interfaces
    expected = np.concatenate([0.05 * np.arange(300), 20 + 0.05 * np.arange(300)])
    np.testing.assert_allclose(times, expected, atol=1e-9)


def test_chops_that_were_not_merged_are_warned_of(run):
    with pytest.warns(UserWarning, match="trials overlap.*run lfads merge first"):
        lfads.export(run, "nwb")


def test_merged_results_go_to_matlab_and_numpy(run):
    merge_main([str(run)])
    names = {path.name for to in ("mat", "npz") for path in lfads.export(run, to)}
    stem = "model_runs_day_merged_posterior_push_mean"
    assert {f"{stem}.mat", f"{stem}.npz"} <= names
    with np.load(run / f"{stem}.npz") as results:
        assert results["factors"].shape[0] == 600
