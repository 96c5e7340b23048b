"""The Neural Latents Benchmark: its files in, a submission out."""

import h5py
import numpy as np
import pytest
from conftest import TINY

import lfads_lightning as lfads
from lfads_lightning import metrics
from lfads_lightning.cli.export import main as export_main
from lfads_lightning.cli.kinds import run_kind
from lfads_lightning.cli.prepare import main as prepare_main
from lfads_lightning.config import Kind, LFADSError
from lfads_lightning.recordings.nlb import DATA_SETS, training_file
from lfads_lightning.runs.run import Run

pynwb = pytest.importorskip("pynwb", reason="needs the extra [nwb]")

N, HELD_OUT = 24, [2, 5, 9]
START = 1.4 + 1.8 * np.arange(N)
SPLIT = np.array((["train"] * 3 + ["val"]) * 5 + ["train", "val", "none", "none"])
END = 1.8 * N + 2


def write_file(path, end=END, event="move_onset_time", series="hand_vel", columns=None, gap=()):
    """Write a file as the benchmark lays them out; return spike times, onsets and behaviour."""
    from datetime import datetime, timezone

    rng = np.random.default_rng(0)
    samples = np.arange(round(END * 1000)) / 1000
    wave = np.stack([np.sin(7 * samples), np.cos(4 * samples)], axis=1)
    mix = rng.normal(0, 0.7, (2, 12))
    rates = 40 * np.exp(wave @ mix) / 1000
    times = [np.flatnonzero(rng.random(len(samples)) < rate) / 1000 + 0.0003 for rate in rates.T]
    onsets = (START + rng.uniform(0.3, 0.4, N)).round(3)
    nwb = pynwb.NWBFile("made up", "id", datetime(2020, 1, 1, tzinfo=timezone.utc))
    nwb.add_unit_column("heldout", "held out")
    for k, own in enumerate(times):
        nwb.add_unit(spike_times=own, heldout=k in HELD_OUT, obs_intervals=[[0.0, end]])
    columns = {"trial_type": np.arange(N) % 3, "trial_version": np.arange(N) % 2} | (columns or {})
    for name in (event, "split", *columns):
        if name != "start_time":
            nwb.add_trial_column(name, name)
    for k in range(N):
        more = {name: column[k] for name, column in columns.items()}
        more |= {} if event == "start_time" else {event: onsets[k]}
        nwb.add_trial(start_time=START[k], stop_time=START[k] + 1.3, split=str(SPLIT[k]), **more)
    there = np.ones(len(samples), bool)
    there[[round(1000 * t) for t in gap]] = False
    module = nwb.create_processing_module("behavior", "hand")
    for name in (series, "hand_pos"):
        module.add(
            pynwb.TimeSeries(
                name=name, unit="mm/s", timestamps=samples, comments="columns=[x,y]",
                data=np.where(there[:, None], wave, np.nan),
            )
        )  # fmt: skip
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return times, onsets, wave


def expected_counts(times, moments, bins, width=5):
    """Count as the benchmark does: milliseconds, then bins on one grid."""
    per_ms = np.zeros((round(1000 * END), len(times)))
    for d, own in enumerate(times):
        np.add.at(per_ms[:, d], np.floor(1000 * own + 1e-6).astype(int), 1)
    whole = per_ms[: len(per_ms) // width * width].reshape(-1, width, len(times)).sum(1)
    firsts = np.ceil((1000 * moments).round(3) / width).astype(int)
    return np.stack([whole[i : i + bins] for i in firsts])


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nlb")
    return folder, *write_file(folder / "desc-train.nwb")


def test_a_file_becomes_the_session_of_the_benchmark(maze, capsys):
    folder, times, onsets, wave = maze
    assert prepare_main(["--nlb", "mc_maze", f"{folder}/desc-train.nwb", "--out", str(folder)]) == 0
    said = capsys.readouterr()
    assert "16 train + 6 valid trials x 180 bins of 5 ms x 12 neurons" in said.out
    assert "train with data.forward_steps=40" in said.out
    assert "2 trials whose split is none" in said.out
    assert said.err == ""
    session = lfads.read_session(folder / "mc_maze.h5")
    assert session.name == "mc_maze"
    for split, label in ((session.train, "train"), (session.valid, "val")):
        trials = np.flatnonzero(label == SPLIT)
        np.testing.assert_array_equal(split.inds, trials)
        expected = expected_counts(times, onsets[trials] - 0.25, 180)
        np.testing.assert_array_equal(split.data, expected)
        assert split.condition.tolist() == [f"{k % 3} {k % 2}" for k in trials]
        first = np.ceil((1000 * onsets[trials] - 250).round(3) / 5).astype(int) * 5 + 80
        mean = np.stack([wave[i : i + 900].reshape(180, 5, 2).mean(1) for i in first])
        np.testing.assert_allclose(split.behaviour, mean, atol=1e-6)
        assert (np.abs(split.event_times_s - onsets[trials]) < 0.005).all()
    np.testing.assert_array_equal(session.held_out_neurons, HELD_OUT)
    np.testing.assert_allclose(session.window_s, [-0.25, 0.65])


def test_options_overrule_the_data_set(maze, tmp_path):
    folder, times, onsets, _ = maze
    path = lfads.prepare(folder / "desc-train.nwb", tmp_path, nlb="mc_maze", bin_width_s=0.02)
    session = lfads.read_session(path)
    trials = np.flatnonzero(SPLIT == "val")
    expected = expected_counts(times, onsets[trials] - 0.25, 45, 20)
    np.testing.assert_array_equal(session.valid.data, expected)


@pytest.mark.parametrize("name", ["mc_rtt", "area2_bump", "dmfc_rsg"])
def test_other_data_sets(name, tmp_path):
    said = DATA_SETS[name]
    columns = {column: np.arange(N) % 2 for column in said.condition}
    series = said.behaviour[0] if said.behaviour else "eye"
    write_file(tmp_path / "a.nwb", event=said.align_to, series=series, columns=columns)
    session = lfads.read_session(lfads.prepare(tmp_path / "a.nwb", tmp_path, nlb=name))
    first, last = said.window_s
    assert session.n_bins == round((last - first + 0.2) / 0.005)
    assert (session.train.behaviour is None) == (not said.behaviour)


def test_what_a_submission_would_lack_is_said(tmp_path):
    """Trials without all of their bins, and behaviour with gaps, which trials stay in spite of."""
    onsets = write_file(tmp_path / "a.nwb", end=START[21] + 0.5, gap=[START[0] + 0.5])[1]
    with pytest.warns(UserWarning, match="1 of the 22 training, .*needs all of them"):
        path = lfads.prepare(tmp_path / "a.nwb", tmp_path, nlb="mc_maze")
    session = lfads.read_session(path)
    assert len(session.train.data) == 16
    assert session.train.behaviour is None
    assert onsets[0] - 0.25 < START[0] + 0.5
    with h5py.File(path) as file:
        left_out = file["left_out"].asstr()[:].tolist()
    assert any("the behaviour: it has gaps in 1 trials" in text for text in left_out)


@pytest.fixture(scope="module")
def run(maze, tmp_path_factory):
    """A run on such a session, and the results of both of its splits."""
    session = lfads.prepare(maze[0] / "desc-train.nwb", maze[0], nlb="mc_maze")
    folder = tmp_path_factory.mktemp("run")
    trained = lfads.fit(session, **TINY, max_epochs=3, forward_steps=40, lfads_save_dir=str(folder))
    config = trained.config
    config.kind, config.data.data_dir = Kind.posterior_push_mean, str(maze[0])
    config.data.data_filename_stem = "mc_maze"
    run_kind(config, Run(folder))
    return folder, trained, lfads.read_session(session)


def nlb_bits(rates, spikes):
    """Compute bits per spike from their definition, as the benchmark does."""
    null = np.broadcast_to(spikes.mean((0, 1)), spikes.shape)
    gain = (spikes * np.log(rates / null) - rates + null).sum()
    return gain / spikes.sum() / np.log(2)


def test_submission(run, tmp_path, capsys):
    folder, trained, session = run
    export_main([str(folder), "--to", "nlb", "--out", str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path}/nlb_submission.h5\n"
    held_in = np.setdiff1d(np.arange(12), HELD_OUT)
    with h5py.File(tmp_path / "nlb_submission.h5") as file:
        assert list(file) == ["mc_maze"]
        arrays = {name: array[()] for name, array in file["mc_maze"].items()}
    assert len(arrays) == 8
    for ours, split in (("train", session.train), ("eval", session.valid)):
        rates = trained.posterior_push_mean(split).rates
        for neurons, channels in (("heldin", held_in), ("heldout", HELD_OUT)):
            name = f"{ours}_rates_{neurons}"
            np.testing.assert_allclose(arrays[name], rates[:, :140, channels], rtol=1e-5)
            later = arrays[f"{name}_forward"]
            np.testing.assert_allclose(later, rates[:, 140:, channels], rtol=1e-5)
    counts = session.valid.data
    rates = trained.posterior_push_mean(session.valid).rates
    assert nlb_bits(arrays["eval_rates_heldout"], counts[:, :140, HELD_OUT]) == pytest.approx(
        metrics.co_bps(rates, counts, HELD_OUT, 40), rel=1e-5
    )


def test_submission_is_refused(run, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    names = {p.name: p.read_bytes() for p in run[0].glob("model_runs_*")}
    (valid,) = (name for name in names if "valid" in name)

    def attempt(change, match):
        for name, content in names.items():
            (folder / name).write_bytes(content)
        with h5py.File(folder / valid, "a") as file:
            change(file)
        with pytest.raises(LFADSError, match=match):
            lfads.export(folder, "nlb")
        assert not (folder / "nlb_submission.h5").exists()

    attempt(lambda f: f.attrs.update(session="day1"), "no results of the valid split of mc_maze")
    attempt(lambda f: f.attrs.pop("held_out_neurons"), "does not say which neurons were held out")
    attempt(
        lambda f: f.attrs.update(held_out_neurons=[40]),
        r"has held-out neurons 40 and 40 forward bins",
    )
    attempt(lambda f: f.attrs.update(forward_steps=180), "2, 5, 9 and 180 forward bins")
    attempt(lambda f: f.attrs.update(config="x: ["), "has no config; expected a run's results")
    said = yaml_with(run[0] / valid, sampling={"ps_nexamples_to_process": 6})
    attempt(lambda f: f.attrs.update(config=said), "has only the first 6 trials")
    said = yaml_with(run[0] / valid, model={"output_dist": "gaussian"})
    attempt(
        lambda f: f.attrs.update(config=said), "is a model of real values; expected rates of counts"
    )

    def widen(file):
        file["bin_width_s"][()] = 0.01

    attempt(widen, "has bins of 0.01 s; the benchmark takes 0.005 and 0.02 s")
    for path in folder.glob("*"):
        with h5py.File(path, "a") as file:
            file.attrs["session"] = "day1"
    with pytest.raises(LFADSError, match="holds results of day1; expected sessions named like"):
        lfads.export(folder, "nlb")


def yaml_with(path, **groups):
    import yaml

    with h5py.File(path) as file:
        config = yaml.safe_load(file.attrs["config"])
    for group, changes in groups.items():
        config[group] |= changes
    return yaml.safe_dump(config)


def test_counts_in_bins_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", counts=np.ones((4, 5, 3)), heldout=[0, 0, 1])
    with pytest.raises(LFADSError, match="contains binned counts; nlb is for spike times"):
        lfads.prepare(tmp_path / "a.npz", tmp_path, nlb="mc_maze")
    with pytest.raises(LFADSError, match="behaviour_lag_s is for spike times"):
        lfads.prepare(tmp_path / "a.npz", tmp_path, behaviour_lag_s=0.1)


MAZE = "sub-Jenkins/sub-Jenkins_ses-{}_desc-{}.nwb"
FOLDERS = [  # what lies in a folder, the data set, what is taken of it
    ([MAZE.format("full", "train_behavior+ecephys"), MAZE.format("full", "test_ecephys")],
     "mc_maze", 0),
    ([MAZE.format("large", "train"), MAZE.format("full", "train")], "mc_maze", 1),
    ([MAZE.format("large", "train"), MAZE.format("full", "train")], "mc_maze_large", 0),
    (["000138/" + MAZE.format("x", "train"), "000128/" + MAZE.format("x", "train")], "mc_maze", 1),
    (["mc_maze_large_train.nwb", "mc_maze_train.nwb"], "mc_maze", 1),
    (["mc_maze_large/desc-train.nwb", "mc_maze/desc-train.nwb"], "mc_maze", 1),
    (["sub-Indy/sub-Indy_desc-train_behavior+ecephys.nwb"], "mc_rtt", 0),
    (["sub-Han/sub-Han_desc-train.nwb", "sub-Haydn/sub-Haydn_desc-train.nwb"], "dmfc_rsg", 1),
    (["desc-train.nwb", "desc-test.nwb"], "mc_maze", 0),
    ([MAZE.format("large", "train")], "mc_maze", "no training file of mc_maze"),
    ([MAZE.format("full", "test")], "mc_maze", "no training file of mc_maze"),
    (["a.nwb", "b.nwb"], "mc_maze", "several files that may be mc_maze"),
    ([], "mc_maze", "no .nwb at all"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "name", "expected"), FOLDERS)
def test_a_folder_is_searched_for_one_data_set(tmp_path, files, name, expected):
    folder = tmp_path / "here"
    folder.mkdir()
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    if isinstance(expected, int):
        assert training_file(folder, name) == folder / files[expected]
    else:
        with pytest.raises(LFADSError, match=expected):
            training_file(folder, name)


def test_a_folder_stands_for_its_file(maze, tmp_path):
    given = tmp_path / MAZE.format("full", "train")
    given.parent.mkdir()
    given.hardlink_to(maze[0] / "desc-train.nwb")
    made = lfads.prepare(tmp_path, tmp_path, nlb="mc_maze")
    assert lfads.read_session(made).n_bins == 180
    with pytest.warns(
        UserWarning, match="judging by its name, this is mc_maze; it is prepared as mc_maze_large"
    ):
        lfads.prepare(given, tmp_path, nlb="mc_maze_large")
