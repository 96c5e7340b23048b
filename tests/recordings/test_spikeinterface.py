"""Folders that SpikeInterface saved: sortings and analyzers; every fault in them is one line."""

import json
import os

import numpy as np
import pytest
from recordings import refused_when_damaged

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.readers import spikeinterface
from lfads_lightning.recordings.settings import Settings

RATE, WIDTH = 25_000.0, 0.02
RNG = np.random.default_rng(0)
IDS = ["a", "b", "c", "d"]
SPIKES = np.zeros(6000, [("sample_index", "<i8"), ("unit_index", "<i8"), ("segment_index", "<i8")])
SPIKES["sample_index"] = np.sort(RNG.integers(0, 60 * RATE, 6000))
SPIKES["unit_index"] = RNG.choice([0, 2, 3], 6000)  # b has no spikes
CHOPS = {"bin_width_s": WIDTH, "chop_bins": 50}


class Payload:
    """Makes a folder where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("was run",)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What ``sorting.save(folder="sorting")`` of SpikeInterface 0.105 leaves."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sorting"
    (path / "properties").mkdir(parents=True)
    np.save(path / "spikes.npy", SPIKES)
    info = {"sampling_frequency": RATE, "unit_ids": IDS, "num_segments": 1}
    (path / "numpysorting_info.json").write_text(json.dumps(info))
    (path / "si_folder.json").write_text('{"class": "os.mkdir", "kwargs": {"path": "was run"}}')
    for name, values in {
        "quality": np.array(["good", "good", "mua", "good"]),
        "group": np.zeros(4, int),
        "brain_area": np.array(["M1", "M1", "PMd", "PMd"]),
        "location": np.arange(12.0).reshape(4, 3).astype(np.float32),
    }.items():
        np.save(path / "properties" / f"{name}.npy", values)
    return path


def made(folder, **options):
    return lfads.read_session(lfads.prepare(folder, "out", **CHOPS | options))


def test_good_units_in_bins(folder):
    session = made(folder, min_rate_hz=0)
    assert session.neuron_ids.tolist() == ["a", "b", "d"]
    data = np.concatenate([session.train.data, session.valid.data])
    data = data[np.argsort(np.concatenate([session.train.inds, session.valid.inds]))]
    n = data.shape[0] * 50
    for d, unit in enumerate((0, 1, 3)):
        own = SPIKES["sample_index"][SPIKES["unit_index"] == unit]
        # bins are whole samples, and begin with the recording
        bins = (own - SPIKES["sample_index"][0] // 500 * 500) // round(WIDTH * RATE)
        np.testing.assert_array_equal(
            data[:, :, d].ravel(), np.bincount(bins[bins < n], minlength=n)
        )
    assert not os.path.exists("was run")


def test_units_by_their_properties(folder):
    assert made(folder, units="brain_area == 'PMd'", unit_quality="all").neuron_ids.tolist() == [
        "c", "d",
    ]  # fmt: skip
    assert made(folder, units="quality == 'mua' or location_1 > 8").neuron_ids.tolist() == [
        "c", "d",
    ]  # fmt: skip
    np.save(folder / "properties" / "quality.npy", np.array(["SUA", "", "MUA", "SUA"]))
    assert made(folder, min_rate_hz=0).neuron_ids.tolist() == IDS  # nobody speaks of good
    np.save(folder / "properties" / "brain_area.npy", np.array([Payload()] * 4, object))
    with pytest.warns(UserWarning, match="brain_area.npy: holds Python objects.* left out"):
        assert made(folder, unit_quality="SUA").neuron_ids.tolist() == ["a", "d"]
    assert not os.path.exists("was run")


def test_an_analyzer_has_metrics(folder, capsys):
    analyzer = folder.parent / "day1"
    (analyzer / "extensions" / "quality_metrics").mkdir(parents=True)
    metrics = analyzer / "extensions" / "quality_metrics" / "metrics.csv"
    metrics.write_text(",snr,presence_ratio\na,9,\nb,8.5,\nc,2.5,\nd,3.5,\n")
    folder.rename(analyzer / "sorting")
    words = [str(analyzer), "--out", "out", "--bin-width-s", "0.02", "--chop-bins", "50"]
    assert main([*words, "--units", "snr > 3 and snr < 9"]) == 1  # b is silent
    assert main([*words, "--units", "snr > 3 and snr < 5"]) == 0
    assert lfads.read_session("out/day1.h5").neuron_ids.tolist() == ["d"]
    metrics.write_text(",snr\na,9\nb,8\n")
    with pytest.raises(
        LFADSError, match=r"metrics.csv: has 2 rows; expected one for each of the 4"
    ):
        made(analyzer)


def test_a_sorting_saved_before_0_99(folder):
    expected = made(folder, min_rate_hz=0)
    (folder / "spikes.npy").unlink()
    (folder / "numpysorting_info.json").unlink()
    np.savez(
        folder / "sorting_cached.npz",
        unit_ids=np.array(IDS),
        num_segment=np.array([1]),
        sampling_frequency=np.array([RATE]),
        spike_indexes_seg0=SPIKES["sample_index"],
        spike_labels_seg0=np.array(IDS)[SPIKES["unit_index"]],
    )
    found = made(folder, min_rate_hz=0)
    np.testing.assert_array_equal(found.train.data, expected.train.data)
    assert found.neuron_ids.tolist() == expected.neuron_ids.tolist() == ["a", "b", "d"]
    np.savez(folder / "sorting_cached.npz", unit_ids=np.array(IDS))
    with pytest.raises(LFADSError, match="sorting_cached.npz: expected spike_indexes_seg0"):
        made(folder)


def info(**values):
    def act(folder):
        path = folder / "numpysorting_info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return act


def spikes(array):
    return lambda folder: np.save(folder / "spikes.npy", array)


def moved(field, at, value):
    array = SPIKES.copy()
    array[field][at] = value
    return spikes(array)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda f: (f / "spikes.npy").unlink(), "has no spikes.npy; expected the spikes; save"),
        (lambda f: os.truncate(f / "spikes.npy", 5000), r"spikes.npy: cannot be read .*copy or"),
        (spikes(SPIKES["sample_index"]), "expected one row for each spike, with whole numbers sam"),
        (spikes(SPIKES.reshape(2, -1)), "is 2×3000 of type .*; expected one row for each spike"),
        (spikes(np.array([Payload()], object)), "Python objects"),
        (moved("unit_index", 7, 4), "spike 7 is of unit number 4; expected 0 to 3, as there are 4"),
        (moved("segment_index", 5999, 1), "has 2 segments.*select_segments"),
        (info(num_segments=3), r"has 3 segments, each with a clock .*select_segments\(\[0\]\)"),
        (info(unit_ids=[1, 1, 2, 3]), r"unit_ids are \[1, 1, 2, 3\]; expected numbers or te"),
        (info(unit_ids=[1, 2, 3, 2**70]), "no number of a unit"),
        (info(unit_ids={}), "unit_ids are {}; expected numbers or texts, each once"),
        (info(sampling_frequency="30k"), "sampling_frequency is '30k'; .*give sampling_rate_hz"),
        (info(sampling_frequency=-1), "sampling_frequency is -1; expected a positive number"),
        (lambda f: (f / "numpysorting_info.json").write_text("{"), "info.json: is not JSON"),
        (lambda f: (f / "numpysorting_info.json").write_text("3"), "expected sampling_frequency, "),
        (lambda f: np.save(f / "properties" / "x.npy", np.ones(3)), "is 3; expected a value for e"),
    ],
)  # fmt: skip
def test_faults(folder, act, said):
    act(folder)
    with pytest.raises(LFADSError, match=said) as error:
        made(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not os.path.exists("was run")


def test_a_zarr_folder_is_refused_with_what_to_do(tmp_path):
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(LFADSError, match=r"is a zarr folder.*sorting.save\(folder='sorting'\) wri"):
        lfads.prepare(tmp_path, tmp_path, **CHOPS)


@pytest.mark.parametrize("n", [40, pytest.param(250, marks=pytest.mark.slow)])
def test_damaged_folders_are_read_or_refused(folder, n):
    files = sorted(path for path in folder.rglob("*.*") if path.is_file())
    refused = refused_when_damaged(files, n, lambda: spikeinterface.read(folder, Settings()))
    assert n / 10 < len(refused) < n
    assert max(map(len, refused)) < 2000
    assert not any("\n" in text for text in refused)
