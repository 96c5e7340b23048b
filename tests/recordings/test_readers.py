"""A reader is one file: what a format needs to be known everywhere."""

import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import REC, UNIT_IDS, write_nwb
from scipy.io import savemat

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings import readers

MADE_UP = '''
"""Event files: a line per spike, "time unit"; the trials begin every second."""

import numpy as np

from lfads_lightning.recordings.readers import reader
from lfads_lightning.recordings.records import Recording, Spikes, Units


@reader(".evt", is_folder=lambda path: (path / "events.evt").is_file(), folder="a folder of events")
def read(path, settings):
    time, unit = np.loadtxt(path / "events.evt" if path.is_dir() else path, ndmin=2).T
    ids = np.unique(unit).astype(int)
    spikes = Spikes([time[unit == i] for i in ids], seconds_per_unit=1e-3)
    quality = np.array(["clean", "noise"])[ids % 2]
    units = Units(ids, {"depth": 10.0 * ids, "held_out": ids == 4}, quality, ("clean",))
    trials = {"start_time": np.arange(20.0), "stop_time": np.arange(1.0, 21.0)}
    return Recording(str(path), units, spikes, trials)
'''


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Put one file into the folder of the readers, and nothing else."""
    before = list(readers.readers())
    folder = tmp_path / "more readers"
    folder.mkdir()
    (folder / "made_up.py").write_text(MADE_UP)
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(folder)])
    readers.readers.cache_clear()
    yield
    readers._READERS[:] = before
    sys.modules.pop(f"{readers.__name__}.made_up", None)
    readers.readers.cache_clear()


@pytest.mark.usefixtures("made_up")
def test_a_made_up_reader_is_one_file(tmp_path, capsys):
    rng = np.random.default_rng(0)
    unit = rng.integers(0, 6, 5000)
    time = np.sort(rng.uniform(0, 20_000, 5000)).round(1)  # ms
    for path in (tmp_path / "day.evt", tmp_path / "night" / "events.evt"):
        path.parent.mkdir(exist_ok=True)
        np.savetxt(path, np.column_stack([time, unit]), fmt="%.1f %d")
    words = ["--out", str(tmp_path / "out"), "--bin-width-s", "0.05"]
    assert main([str(tmp_path / "day.evt"), str(tmp_path / "night"), *words]) == 0
    assert "3 units that are not clean: 3 noise" in capsys.readouterr().out
    for name in ("day", "night"):
        session = lfads.read_session(tmp_path / "out" / f"{name}.h5")
        assert session.neuron_ids.tolist() == [0, 2, 4]
        assert session.held_out_neurons.tolist() == [2]
        data = np.concatenate([session.train.data, session.valid.data])
        order = np.argsort(np.concatenate([session.train.inds, session.valid.inds]))
        edges = np.arange(0, 20_001, 50)
        expected = [np.histogram(time[unit == i], edges)[0].reshape(20, 20) for i in (0, 2, 4)]
        np.testing.assert_array_equal(data[order], np.stack(expected, axis=2))
    with pytest.raises(LFADSError, match=r"\.evt.*, or a folder of events"):
        lfads.prepare(tmp_path / "nowhere", tmp_path)


def test_formats_are_listed_once(tmp_path):
    suffixes = [suffix for reader in readers.readers() for suffix in reader.suffixes]
    assert len(suffixes) == len(set(suffixes)) >= 8
    with pytest.raises(LFADSError, match="is a folder; expected a recording .*Kilosort or Phy"):
        lfads.prepare(tmp_path, tmp_path)


def test_quality_is_for_units_that_have_one(tmp_path):
    counts = np.random.default_rng(0).poisson(1.0, (10, 8, 3))
    with pytest.raises(LFADSError, match="does not say how good its units are; unit_quality"):
        lfads.prepare({"counts": counts}, tmp_path, name="a", unit_quality="good")


def test_series_of_one_name_and_a_table_beside_nwb(tmp_path):
    pynwb = pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = write_nwb(tmp_path / "a.nwb", REC)
    with pynwb.NWBHDF5IO(str(path), "a") as io:
        nwb = io.read()
        for k, name in enumerate(("Hand", "Eye")):
            position = pynwb.behavior.Position(name=name)
            values = np.full((len(REC.samples), 2), float(k))
            position.create_spatial_series("place", values, "x", timestamps=REC.samples)
            nwb.processing["behavior"].add(position)
        words = pynwb.TimeSeries(name="words", data=["a"] * 9, unit="x", rate=1.0)
        nwb.add_acquisition(words)
        io.write(nwb)
    options = {"bin_width_s": 0.02, "window_s": (0, 0.5)}
    with pytest.raises(LFADSError, match=r"has 2 time series place; expected one of Eye/place, Ha"):
        lfads.prepare(path, tmp_path, behaviour="place", **options)
    with pytest.raises(LFADSError, match="words is of shape .* and holds no numbers; expected sam"):
        lfads.prepare(path, tmp_path, behaviour="words", **options)
    session = lfads.read_session(lfads.prepare(path, tmp_path, behaviour="Eye/place", **options))
    assert (session.train.behaviour == 1).all()
    (tmp_path / "t.csv").write_text("start_time,stop_time\n1,1.5\n2,2.5\n3,3.5\n4,4.5\n5,5.5\n")
    path = lfads.prepare(path, tmp_path, bin_width_s=0.02, trials=str(tmp_path / "t.csv"))
    assert len(lfads.read_session(path).train.data) == 4


def test_units_of_nwb_by_their_quality(tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = write_nwb(tmp_path / "a.nwb", REC)
    options = {"bin_width_s": 0.02, "chop_bins": 20}
    lfads.prepare(path, tmp_path, unit_quality="good,mua", **options)
    assert lfads.read_session(tmp_path / "a.h5").neuron_ids.tolist() == UNIT_IDS
    with pytest.raises(LFADSError, match=r"none of its 6 units is mua; found good \(6\)"):
        lfads.prepare(path, tmp_path, unit_quality="mua", **options)


def test_trial_table_beside_cells_of_spike_times(tmp_path):
    """Cells number their trials; a table beside them has a row for each, in their order."""
    times = np.empty((3, 12), object)
    for d, e in np.ndindex(times.shape):
        times[d, e] = np.array([0.1 * (d + 1)])
    savemat(tmp_path / "a.mat", {"spike_times": times})
    (tmp_path / "t.csv").write_text("trial,cue\n" + "".join(f"{e + 1},0.05\n" for e in range(12)))
    options = {"bin_width_s": 0.05, "window_s": (0, 0.3), "align_to": "cue"}
    lfads.prepare(tmp_path / "a.mat", tmp_path, trials=str(tmp_path / "t.csv"), **options)
    data = lfads.read_session(tmp_path / "a.h5").train.data
    assert [np.flatnonzero(data[0, :, d]).tolist() for d in range(3)] == [[1], [3], [5]]
    (tmp_path / "t.csv").write_text("trial,cue\n1,0.05\n")
    with pytest.raises(LFADSError, match="spikes of 12 trials, the trial table has 1 rows"):
        lfads.prepare(tmp_path / "a.mat", tmp_path, trials=str(tmp_path / "t.csv"), **options)


def test_behaviour_that_a_format_does_not_have(tmp_path):
    (tmp_path / "a.csv").write_text("unit,time\n" + "1,0.5\n2,0.7\n" * 20)
    with pytest.raises(LFADSError, match="holds no behaviour; behaviour=hand .* behaviour_file"):
        lfads.prepare(tmp_path / "a.csv", tmp_path, behaviour="hand", bin_width_s=0.1, chop_bins=2)


@pytest.mark.filterwarnings("default:.*metadata of the units")
def test_spikes_that_pynapple_saved(tmp_path, capsys):
    """Its files have the metadata of the units as a pickled dictionary, which stays closed."""

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    rng = np.random.default_rng(0)
    keys = np.repeat([5, 7], [40, 60])
    path = tmp_path / "units.npz"
    saved = {"t": np.sort(rng.uniform(0, 10, 100)), "index": rng.permutation(keys)}
    np.savez(path, type=np.array(["TsGroup"]), _metadata=np.array({"a": Bomb()}), **saved)
    (tmp_path / "trials.csv").write_text("start_time,stop_time\n0,2\n3,5\n6,8\n")
    words = [str(path), "--out", str(tmp_path / "data"), "--bin-width-s", "0.1"]
    assert main([*words, "--trials", str(tmp_path / "trials.csv")]) == 0
    assert "metadata of the units are Python objects" in capsys.readouterr().err
    (session,) = lfads.read_sessions(tmp_path / "data" / "units.h5")
    assert list(session.neuron_ids) == [5, 7]
    n_in = sum(((saved["t"] >= a) & (saved["t"] < a + 2)).sum() for a in (0, 3, 6))
    assert sum(s.data.sum() for s in session.splits.values()) == n_in
    assert not (tmp_path / "ran").exists()
