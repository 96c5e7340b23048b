"""Folders in the ALF convention, and single .npy files: read as they lie, faults are one line."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest
from recordings import refused_when_damaged

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.readers import alf
from lfads_lightning.recordings.settings import Settings

RNG = np.random.default_rng(0)
TIMES = np.sort(RNG.uniform(0, 60, 6000))
CLUSTERS = np.array([0, 1, 3, 4])[RNG.integers(0, 4, 6000)].astype(np.uint32)
STARTS = 1.0 + 1.9 * np.arange(30)
OPTIONS = {"bin_width_s": 0.02, "align_to": "stimOn_times", "window_s": (-0.2, 0.6)}


class Payload:
    """Makes a folder where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("was run",)


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A session as IBL has it: alf/ with trials, alf/probe00/pykilosort/ with spikes."""
    monkeypatch.chdir(tmp_path)
    around = tmp_path / "KS014" / "alf"
    probe = around / "probe00" / "pykilosort"
    probe.mkdir(parents=True)
    np.save(probe / "spikes.times.npy", TIMES)
    np.save(probe / "spikes.clusters.npy", CLUSTERS)
    np.save(probe / "spikes.amps.npy", TIMES * 0)
    np.save(probe / "clusters.channels.npy", np.arange(10, 15))
    np.save(probe / "clusters.acronym.npy", np.array(["CA1", "VISp", "x", "VISp", "root"]))
    np.save(probe / "clusters.names.npy", np.array([Payload()] * 5, object))
    metrics = {"cluster_id": [0, 1, 3, 4], "label": [1, 1, 2 / 3, 1], "ks2_label": ["good"] * 4}
    pd.DataFrame(metrics).to_csv(probe / "clusters.metrics.csv", index=False)
    np.save(around / "_ibl_trials.intervals.npy", np.stack([STARTS, STARTS + 1.5], axis=1))
    np.save(around / "_ibl_trials.stimOn_times.9f3a-77.npy", STARTS + 0.3)
    np.save(around / "_ibl_trials.choice.npy", np.where(np.arange(30) % 3, 1, -1))
    samples = np.arange(0, 60, 0.01)
    np.save(around / "_ibl_wheel.position.npy", np.sin(samples))
    np.save(around / "_ibl_wheel.timestamps.npy", np.array([[0, 0.0], [5999, 59.99]]))
    return tmp_path / "KS014"


def made(path, **options):
    with pytest.warns(UserWarning, match=r"clusters.names.npy: holds Python objects.* left out"):
        return lfads.read_session(lfads.prepare(path, "out", **OPTIONS | options))


def test_a_session_around_its_events(session):
    for path in (session, session / "alf", session / "alf" / "probe00" / "pykilosort"):
        found = made(path, behaviour="wheel.position", condition="choice")
        assert found.neuron_ids.tolist() == [0, 1, 4]  # 3 fails a test
        inds = found.train.inds
        for e in (0, 7, 20):
            edges = STARTS[inds[e]] + 0.1 + 0.02 * np.arange(41)
            expected = [np.histogram(TIMES[CLUSTERS == c], edges)[0] for c in (0, 1, 4)]
            np.testing.assert_array_equal(found.train.data[e], np.transpose(expected))
            middles = (edges[:-1] + edges[1:]) / 2
            np.testing.assert_allclose(found.train.behaviour[e, :, 0], np.sin(middles), atol=0.02)
        assert set(found.train.condition.tolist()) == {-1, 1}
    assert not os.path.exists("was run")


def test_units_and_trials_by_their_columns(session):
    found = made(session, units="quality == 'good' and acronym == 'VISp'", where="choice == 1")
    assert found.neuron_ids.tolist() == [1]
    assert (np.concatenate([found.train.inds, found.valid.inds]) % 3 != 0).all()
    found = made(session, units="label > 0.5 and acronym in ['VISp', 'root']")
    assert found.neuron_ids.tolist() == [1, 4]
    assert made(session, unit_quality="all").neuron_ids.tolist() == [0, 1, 3, 4]
    with pytest.raises(LFADSError, match="one of wheel.position"):
        made(session, behaviour="wheel.speed")


def test_a_table_of_trials_and_an_older_folder(session):
    """``trials.table.pqt`` of today, and a flat folder with Phy's annotations of former days."""
    pytest.importorskip("pyarrow", reason="needs the extra [parquet]")
    expected = made(session)
    around, probe = session / "alf", session / "alf" / "probe00" / "pykilosort"
    for path in around.glob("_ibl_trials.*"):
        path.unlink()
    table = {"intervals_0": STARTS, "intervals_1": STARTS + 1.5, "stimOn_times": STARTS + 0.3}
    pd.DataFrame(table).to_parquet(around / "_ibl_trials.table.pqt")
    np.testing.assert_array_equal(made(session).train.data, expected.train.data)
    (probe / "clusters.metrics.csv").unlink()
    np.save(probe / "clusters._phy_annotation.npy", np.array([[2], [2], [0], [1], [2]]))
    np.save(probe / "spikes.times.npy", TIMES[:, None])
    np.testing.assert_array_equal(made(session).train.data, expected.train.data)


def test_what_cameras_see_is_behaviour(session):
    around, frames = session / "alf", np.arange(0, 60, 1 / 30)
    np.save(around / "_ibl_leftCamera.times.npy", frames)
    np.save(around / "leftCamera.ROIMotionEnergy.npy", np.cos(frames))
    paw = pd.DataFrame({"paw_x": np.sin(frames), "paw_y": frames, "part": "paw"})
    paw.to_csv(around / "_ibl_leftCamera.dlc.csv", index=False)
    found = made(session, behaviour=("leftCamera.ROIMotionEnergy", "leftCamera.dlc"))
    assert found.train.behaviour.shape[2] == 3
    middle = STARTS[found.train.inds[3]] + 0.1 + 0.02 * 5.5
    np.testing.assert_allclose(
        found.train.behaviour[3, 5], [np.cos(middle), np.sin(middle), middle], atol=0.03
    )
    with pytest.raises(LFADSError, match="expected one of leftCamera.dlc, wheel.position, leftC"):
        made(session, behaviour="spikes.amps")


def save(name, array):
    return lambda probe: np.save(probe / name, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda p: (p / "spikes.times.npy").unlink(), "has no spikes.times.npy; expected the time"),
        (lambda p: (p / "spikes.clusters.npy").unlink(), "has no spikes.clusters.npy"),
        (save("spikes.clusters.npy", CLUSTERS[:-1]), "6000 entries, spikes.clusters has 5999"),
        (save("spikes.clusters.npy", CLUSTERS + 0.5), "expected whole numbers"),
        (save("spikes.clusters.npy", CLUSTERS.astype(int) - 1), "holds cluster -1; expected 0"),
        (save("spikes.times.npy", np.full(6000, np.nan)), "holds what is no time"),
        (save("spikes.times.npy", TIMES.reshape(2, -1)), "is 2×3000; expected one value for each"),
        (save("spikes.times.npy", np.array([Payload()], object)), "Python objects in dtype"),
        (lambda p: os.truncate(p / "spikes.times.npy", 5000), "cannot be read .*copy or export"),
        (save("../../trials.extra.npy", np.arange(29)), "trials.extra has 29 entries, there"),
        (save("../spikes.times.npy", TIMES), "spikes of 2 probes|has no spikes.clusters"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*Python objects")
def test_faults(session, act, said):
    act(session / "alf" / "probe00" / "pykilosort")
    with pytest.raises(LFADSError, match=said) as error:
        lfads.prepare(session, "out", **OPTIONS)
    assert "\n" not in str(error.value)
    assert not os.path.exists("was run")


@pytest.mark.filterwarnings("ignore:.*Python objects")
@pytest.mark.parametrize("n", [40, pytest.param(250, marks=pytest.mark.slow)])
def test_damaged_folders_are_read_or_refused(session, n):
    files = sorted(path for path in session.rglob("*.*") if path.is_file())
    settings = Settings(behaviour=("wheel.position",))
    refused = refused_when_damaged(files, n, lambda: alf.read(session, settings))
    assert n / 10 < len(refused) < n
    assert max(map(len, refused)) < 2000
    assert not any("\n" in text for text in refused)


def test_several_probes_are_named(session):
    probe = session / "alf" / "probe00" / "pykilosort"
    probe.rename(session / "alf" / "probe01")
    (session / "alf" / "probe00" / "pykilosort").mkdir()
    np.save(session / "alf" / "probe00" / "pykilosort" / "spikes.times.npy", TIMES)
    with pytest.raises(LFADSError, match=r"2 probes \(alf/probe01, alf/probe00\); .*/alf/probe01$"):
        lfads.prepare(session, "out", **OPTIONS)


def test_an_array_by_itself(tmp_path, capsys):
    counts = RNG.poisson(RNG.uniform(0.5, 3, 9), (20, 30, 9))
    np.save(tmp_path / "a.npy", counts)
    assert main([str(tmp_path / "a.npy"), "--out", str(tmp_path)]) == 0
    found = lfads.read_session(tmp_path / "a.h5")
    np.testing.assert_array_equal(found.train.data, counts[found.train.inds])
    np.save(tmp_path / "b.npy", counts.reshape(600, 9).T.copy())
    words = [str(tmp_path / "b.npy"), "--out", str(tmp_path), "--chop-bins", "30"]
    capsys.readouterr()
    assert main(words) == 1
    assert "give --axes neurons bins" in capsys.readouterr().err
    assert main([*words, "--axes", "neurons", "bins"]) == 0
    np.save(tmp_path / "c.npy", np.array([counts[0], counts[1][:4]], object))
    (tmp_path / "d.npy").write_bytes(pickle.dumps(counts))
    for name in "cd":
        assert main([str(tmp_path / f"{name}.npy"), "--out", str(tmp_path)]) == 1
        assert "expected a plain array as numpy.save writes it" in capsys.readouterr().err
