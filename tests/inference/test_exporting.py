"""Results in files and tables: what they hold, in which types, and how they leave for elsewhere."""

import json
import signal
import sys
from datetime import datetime, timezone

import h5py
import numpy as np
import pytest
from conftest import TINY
from scipy.io import loadmat
from small_runs import data_args

import lfads_lightning as lfads
from benchmarks.crash import child, ended
from lfads_lightning.cli.export import main
from lfads_lightning.cli.kinds import run_kind
from lfads_lightning.config import EXPORT_FORMATS, Kind, LFADSError
from lfads_lightning.runs.run import Run

pynwb = pytest.importorskip("pynwb")

E_TRAIN, E_VALID, T, D = 8, 4, 8, 5
WIDTH = 0.02
TRAIN_INDS, VALID_INDS = [0, 1, 3, 4, 6, 7, 9, 10], [2, 5, 8, 11]
LABELS = {
    "bin_width_s": WIDTH,
    "neuron_ids": ["1a", "1b", "µ7", "9", "12"],
    "train_inds": TRAIN_INDS,
    "valid_inds": VALID_INDS,
    "train_condition": ["left", "right"] * 4,
    "valid_condition": ["left", ""] * 2,
    "train_event_times_s": 1.0 + 2.0 * np.array(TRAIN_INDS),
    "valid_event_times_s": 1.0 + 2.0 * np.array(VALID_INDS),
    "window_s": [-0.1, 0.06],
}
KIND = "posterior_sample_and_average"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    counts = np.random.default_rng(0).poisson(1.0, (12, T, D))
    labelled = {"train_data": counts[TRAIN_INDS], "valid_data": counts[VALID_INDS]} | LABELS
    lfads.write_session(folder / "m_day1.h5", **labelled)
    plain = {k: v for k, v in labelled.items() if k.endswith("_data")}
    lfads.write_session(folder / "plain.h5", **plain)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A model of one session, and its folder."""
    session = lfads.read_session(data / "m_day1.h5")
    folder = tmp_path_factory.mktemp("run")
    trained = lfads.fit({"day1": session.train.data}, valid_data={"day1": session.valid.data},
                        **TINY, max_epochs=1, lfads_save_dir=str(folder))  # fmt: skip
    return trained, folder


@pytest.fixture(scope="module")
def results(data, trained):
    """Folders with what the kinds write, by the stem of the data and the kind."""
    made = {}

    def make(stem, kind):
        if (stem, kind) not in made:
            config = lfads.load(trained[1]).config
            config.kind, config.sampling.num_posterior_samples = Kind[kind], 3
            config.data.data_dir, config.data.data_filename_stem = str(data), stem
            run_kind(config, Run(trained[1]))
            made[stem, kind] = {p.name: p.read_bytes() for p in trained[1].glob("model_runs_*")}
        return made[stem, kind]

    return make


@pytest.fixture
def run(results, tmp_path):
    """A folder with the results of a kind; ``stem`` names the data."""

    def make(stem="m", kind=KIND):
        folder = tmp_path / "results"
        folder.mkdir()
        for name, content in results(stem, kind).items():
            if kind in name:
                (folder / name).write_bytes(content)
        return folder

    return make


def test_results_say_which_trials_and_neurons_they_are_of(run):
    """Ids, conditions, times and the way to Hz lie in the file, in types that every reader has."""
    folder = run()
    for split in ("train", "valid"):
        with h5py.File(folder / f"model_runs_day1_{split}_{KIND}.h5") as file:
            assert file["trial_ids"][:].tolist() == LABELS[f"{split}_inds"]
            assert file["condition"].asstr()[:].tolist() == LABELS[f"{split}_condition"]
            assert file["neuron_ids"].asstr()[:].tolist() == LABELS["neuron_ids"]
            assert file["bin_width_s"][()] == WIDTH
            starts = LABELS[f"{split}_event_times_s"] - 0.1
            np.testing.assert_allclose(file["trial_starts_s"][:], starts)
            rates = file["output_dist_params"]
            assert rates.attrs["to_hz"] == pytest.approx(1 / WIDTH)
            assert rates.attrs["units"] == "expected counts per bin"
            assert "to_hz" not in file["factors"].attrs
            assert file["controller_outputs_sd"].shape == file["controller_outputs"].shape
            assert "over posterior samples" in file["controller_outputs_sd"].attrs["meaning"]
            for name in ("costs", "nll_bound_vaes", "nll_bound_iwaes_true"):
                assert file[name].shape == (len(LABELS[f"{split}_inds"]),)
            for name, dataset in file.items():
                kind = dataset.dtype.kind
                assert kind in "iuf" or (
                    kind == "S" and h5py.check_string_dtype(dataset.dtype).length is not None
                ), name
                assert h5py.check_enum_dtype(dataset.dtype) is None  # NumPy's booleans


def test_spread_of_inputs_without_samples_is_that_of_the_posterior(run, trained, data):
    """posterior_push_mean has no samples; the deviation is the posterior's own."""
    folder = run(kind="posterior_push_mean")
    counts = lfads.read_session(data / "m_day1.h5").valid.data
    with h5py.File(folder / "model_runs_day1_valid_posterior_push_mean.h5") as file:
        sd = file["controller_outputs_sd"]
        assert "of its posterior" in sd.attrs["meaning"]
        inputs = trained[0].posterior_sample_and_average(counts, num_samples=400)
        # samples add the spread of the initial condition to it, at most
        assert 0.5 < np.median(sd[:] / inputs.controller_outputs_sd) < 1.1
        assert "factors_sd" not in file


def test_data_without_labels_give_results_without(run):
    with h5py.File(run("plain") / f"model_runs_day1_train_{KIND}.h5") as file:
        assert not {"trial_ids", "neuron_ids", "bin_width_s", "condition"} & set(file)
        assert "to_hz" not in file["output_dist_params"].attrs


def test_first_trials_take_their_labels_along(trained, data, call):
    """By the command line, too."""
    done = call(f"kind={KIND}", f"output.lfads_save_dir={trained[1]}", *data_args(data, "m"),
                "sampling.ps_nexamples_to_process=3", "sampling.num_posterior_samples=2",
                "output.output_filename_stem=few", "trainer.device=cpu:0",
                "recipe=original")  # fmt: skip
    assert done.code == 0, done.err
    with h5py.File(trained[1] / f"few_day1_train_{KIND}.h5") as file:
        assert file["trial_ids"][:].tolist() == TRAIN_INDS[:3]
        assert file["condition"].shape == file["costs"].shape == (3,)


def test_npz_holds_no_objects(run, tmp_path):
    folder = run()
    paths = lfads.export(folder, "npz", out=tmp_path)
    assert [p.name for p in paths] == [
        f"model_runs_day1_{s}_{KIND}.npz" for s in ("train", "valid")
    ]
    with (
        np.load(paths[1], allow_pickle=False) as file,
        h5py.File(folder / f"model_runs_day1_valid_{KIND}.h5") as held,
    ):
        assert set(file) == set(held) | {"info"}
        np.testing.assert_array_equal(file["factors"], held["factors"][:])
        assert file["neuron_ids"].tolist() == LABELS["neuron_ids"]
        info = json.loads(str(file["info"]))
    assert info["kind"] == KIND
    assert info["to_hz_of"]["output_dist_params"] == pytest.approx(1 / WIDTH)
    assert info["units_of"]["costs"] == "nats per trial"


def test_mat_is_read_by_matlab(run, tmp_path):
    """v5: numbers as they are, texts as a cell array, what is said of them as a structure."""
    folder = run()
    path = lfads.export(folder, "mat", out=tmp_path)[0]
    assert path.read_bytes().startswith(b"MATLAB 5.0 MAT-file")
    held = loadmat(path, squeeze_me=False)
    with h5py.File(folder / f"model_runs_day1_train_{KIND}.h5") as file:
        np.testing.assert_array_equal(held["output_dist_params"], file["output_dist_params"][:])
        np.testing.assert_array_equal(held["costs"][:, 0], file["costs"][:])
    assert held["neuron_ids"].dtype == object
    assert [str(x[0]) for x in held["neuron_ids"][:, 0]] == LABELS["neuron_ids"]
    assert held["bin_width_s"].item() == WIDTH
    info = held["info"][0, 0]
    assert info["kind"].item() == KIND
    assert info["to_hz_of"][0, 0]["output_dist_params"].item() == pytest.approx(1 / WIDTH)


def recording(path):
    """Write an NWB file with units and trials."""
    file = pynwb.NWBFile("a session", "id1", datetime(2026, 1, 31, tzinfo=timezone.utc))
    for k in range(D):
        file.add_unit(spike_times=np.arange(3) + k / 10)
    for k in range(12):
        file.add_trial(start_time=1.0 + 2 * k, stop_time=2.0 + 2 * k)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


@pytest.mark.parametrize("given", [True, False])
def test_nwb_has_the_results_beside_the_units(run, tmp_path, given):
    """In a copy of the recording, or in a file of its own; pynwb's validator accepts both."""
    folder = run()
    base = recording(tmp_path / "rec.nwb") if given else None
    before = base.read_bytes() if given else None
    (path,) = lfads.export(folder, "nwb", out=tmp_path / "out", nwb=base)
    assert not pynwb.validate(path=str(path))
    if given:
        assert base.read_bytes() == before
    results = [folder / f"model_runs_day1_{s}_{KIND}.h5" for s in ("train", "valid")]
    order = np.argsort(TRAIN_INDS + VALID_INDS)
    with (
        pynwb.NWBHDF5IO(str(path), "r") as io,
        h5py.File(results[0]) as train,
        h5py.File(results[1]) as valid,
    ):
        file = io.read()
        module = file.processing["lfads"]
        assert (file.units is not None) == given
        if not given:
            assert "1970" in file.session_description
        for name, held in (("rates", "output_dist_params"), ("factors", "factors"),
                           ("controller_outputs_sd", "controller_outputs_sd")):  # fmt: skip
            both = np.concatenate([train[held][:], valid[held][:]])[order]
            series = module[name]
            np.testing.assert_array_equal(series.data[:], both.reshape(12 * T, -1))
            times = np.asarray(series.timestamps[:]).reshape(12, T)
            np.testing.assert_allclose(times[:, 0], 0.9 + 2.0 * np.arange(12))
            np.testing.assert_allclose(np.diff(times), WIDTH)
        assert module["rates"].unit == "Hz"
        assert module["rates"].conversion == pytest.approx(1 / WIDTH)
        trials = module["trials"].to_dataframe()
        assert trials["trial_ids"].tolist() == list(range(12))
        assert trials["split"].tolist() == ["train", "train", "valid"] * 4
        np.testing.assert_allclose(trials["stop_time"] - trials["start_time"], T * WIDTH)
        costs = np.concatenate([train["costs"][:], valid["costs"][:]])[order]
        np.testing.assert_array_equal(trials["costs"], costs)
        assert module["neurons"].to_dataframe()["neuron_id"].tolist() == LABELS["neuron_ids"]
        parameters = module["parameters"].to_dataframe().set_index("parameter")["value"]
        assert parameters["model.gen_dim"] == str(TINY["gen_dim"])


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param(False, id="new"),
        pytest.param(True, id="in the recording", marks=pytest.mark.slow),
    ],
)
def test_full_disk_is_one_error_and_no_crash(run, tmp_path, given):
    """As one: HDF5 fails again as it closes, and pynwb keeps the file open."""
    folder = run()
    base = recording(tmp_path / "rec.nwb") if given else None
    (whole,) = lfads.export(folder, "nwb", out=tmp_path / "whole", nwb=base)
    out, size = tmp_path / "out", whole.stat().st_size

    def work():
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit in (0, 500, *np.linspace(3_000, size - 5_000, 8).astype(int)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
            with pytest.raises(LFADSError, match=r"\.nwb: cannot be written \(File too large"):
                lfads.export(folder, "nwb", out=out, nwb=base)
            assert list(out.iterdir()) == []

    assert ended(child(work, tmp_path / "log"), block=True) == 0, (tmp_path / "log").read_text()


def test_session_start_time_of_a_new_file(run, tmp_path):
    start = datetime(2020, 5, 4, 3, 2, 1, tzinfo=timezone.utc)
    (path,) = lfads.export(run(), "nwb", out=tmp_path, session_start_time=start)
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        file = io.read()
        assert file.session_start_time == start
        assert "1970" not in file.session_description


def test_command(run, tmp_path, capsys):
    folder = run()
    capsys.readouterr()  # of the training
    main([str(folder), "--to", "npz", "--out", str(tmp_path)])
    assert capsys.readouterr().out.split() == [
        str(tmp_path / f"model_runs_day1_{s}_{KIND}.npz") for s in ("train", "valid")
    ]
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "none"), "--to", "mat"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path}/none: no such file or folder; give a run's folder\n"


def test_mistakes(run, tmp_path, monkeypatch):
    folder = run("plain")
    (tmp_path / "empty").mkdir()
    with pytest.raises(lfads.LFADSError, match="holds no results; lfads train kind="):
        lfads.export(tmp_path / "empty", "npz")
    with pytest.raises(lfads.LFADSError, match="to='csv'; expected one of nwb, mat, npz"):
        lfads.export(folder, "csv")
    with pytest.raises(lfads.LFADSError, match="nwb and session_start_time need to='nwb'"):
        lfads.export(folder, "mat", nwb=tmp_path / "x.nwb")
    with pytest.raises(lfads.LFADSError, match="holds no bin_width_s, but NWB needs times"):
        lfads.export(folder, "nwb")
    monkeypatch.setitem(sys.modules, "pynwb", None)
    with pytest.raises(lfads.LFADSError, match=r'pip install "lfads-lightning\[nwb\]"'):
        lfads.export(folder, "nwb")
    assert not list(folder.glob("*.nwb"))


def test_mistakes_with_a_recording(run, tmp_path):
    folder = run()
    base = recording(tmp_path / "rec.nwb")
    (path,) = lfads.export(folder, "nwb", out=tmp_path, nwb=base)
    with pytest.raises(lfads.LFADSError, match="already has a processing module 'lfads'"):
        lfads.export(folder, "nwb", out=tmp_path / "again", nwb=path)
    with pytest.raises(lfads.LFADSError, match="none.nwb: no such file; nwb is the recording"):
        lfads.export(folder, "nwb", out=tmp_path, nwb=tmp_path / "none.nwb")
    (tmp_path / "text.nwb").write_text("x")
    with pytest.raises(lfads.LFADSError, match="text.nwb: is not an NWB file"):
        lfads.export(folder, "nwb", out=tmp_path, nwb=tmp_path / "text.nwb")
    with h5py.File(folder / f"model_runs_day1_train_{KIND}.h5", "a") as file:
        del file["trial_starts_s"]
    with pytest.raises(lfads.LFADSError, match="does not say when its trials begin"):
        lfads.export(folder, "nwb", out=tmp_path, nwb=base)


def test_xarray_and_pandas(trained, data):
    """Named axes, labels, Hz where the bin width is given."""
    pytest.importorskip("xarray")
    counts = lfads.read_session(data / "m_day1.h5").valid.data
    post = trained[0].posterior_push_mean(counts)
    labels = {"bin_width_s": WIDTH, "neuron_ids": LABELS["neuron_ids"], "trial_ids": VALID_INDS}
    made = post.to_xarray(**labels)
    assert made["rates"].dims == ("trial", "bin", "neuron")
    assert made["gen_ics"].dims == ("trial", "generator_unit")
    np.testing.assert_array_equal(made["rates"].sel(trial=5, neuron="µ7"), post.rates[1, :, 2])
    np.testing.assert_allclose(made["rates_hz"], post.rates / WIDTH)
    np.testing.assert_allclose(made["time_s"], WIDTH * np.arange(T))
    assert "factors_sd" not in made  # there are none
    assert "rates_hz" not in post.to_xarray()
    table = post.to_pandas(**labels)
    assert table.shape == (E_VALID * T, D)
    assert table.index.names == ["trial", "bin", "time_s"]
    assert table.loc[(5, 3), "1b"].item() == post.rates[1, 3, 1]
    assert post.to_pandas("costs", trial_ids=VALID_INDS).loc[8, "costs"] == post.costs[2]
    assert post.to_pandas("gen_ics").shape == (E_VALID, TINY["gen_dim"])
    prior = trained[0].prior_sample(6)
    assert prior.to_xarray()["prior_zs_ar_con"].dims == ("trial", "bin", "input")
    with pytest.raises(lfads.LFADSError, match="to_pandas: the result has no 'factors_sd'"):
        post.to_pandas("factors_sd")
    with pytest.raises(lfads.LFADSError, match=r"neuron_ids has shape \(2,\); expected \(5,\)"):
        post.to_xarray(neuron_ids=[1, 2])


@pytest.mark.parametrize("package", ["xarray", "pandas"])
def test_missing_extra_is_named(trained, data, monkeypatch, package):
    post = trained[0].prior_sample(2)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(lfads.LFADSError, match=rf'needs {package}; pip install "lfads-lightning'):
        getattr(post, f"to_{package}")()


@pytest.mark.parametrize("what", ["link", "group", "huge", "session", "kind"])
def test_results_changed_by_hand_are_one_error(run, tmp_path, what, capsys):
    folder = run()
    (path,) = folder.glob("*valid*.h5")
    with h5py.File(path, "a") as file:
        if what == "link":
            file["other"] = h5py.ExternalLink(str(folder / "secret.h5"), "x")
        elif what == "group":
            file.create_group("other")
        elif what == "huge":
            file.create_dataset("other", (10**6, 10**6), "f4", chunks=(10, 10))
        elif what == "session":
            del file.attrs["session"]
        else:
            file.attrs["kind"] = [1, 2]
    if what == "kind":  # none of ours: left out
        assert [p.stem for p in lfads.export(folder, "npz")] == [
            p.stem for p in folder.glob("*train*.h5")
        ]
        return
    for to in EXPORT_FORMATS:
        with pytest.raises(LFADSError, match=path.name):
            lfads.export(folder, to)
