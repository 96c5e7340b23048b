"""Folders of Kilosort and Phy: read as they lie, and every fault in them is one line."""

import os
import pickle

import numpy as np
import pytest
from recordings import refused_when_damaged

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.readers import kilosort
from lfads_lightning.recordings.settings import Settings

RATE, WIDTH, N_TRIALS = 25_000, 0.02, 30
RNG = np.random.default_rng(0)
SAMPLES = np.sort(RNG.integers(0, 60 * RATE, 6000)).astype(np.uint64)
IDS = np.array([0, 3, 5, 7, 12])
CLUSTERS = IDS[RNG.integers(0, 5, 6000)].astype(np.int32)
STARTS = 1.0 + 1.9 * np.arange(N_TRIALS)
TRIALS = {"trials": "{name}.csv", "align_to": "cue", "window_s": (-0.2, 0.6)}
CHOPS = {"chop_bins": 50}
GROUPS = "cluster_id\tgroup\n0\tgood\n3\tmua\n5\tgood\n7\tnoise\n12\tgood\n99\tgood\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder as Phy leaves it, and a table of trials beside it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "day.1"
    path.mkdir()
    np.save(path / "spike_times.npy", SAMPLES[:, None])
    np.save(path / "spike_clusters.npy", CLUSTERS)
    (path / "cluster_group.tsv").write_text(GROUPS)
    (path / "params.py").write_text(
        f"dat_path = r'x'\nn_channels_dat = 385\nsample_rate = {RATE}.  # Hz\nhp_filtered = False\n"
        "import os; os.mkdir('was run')\nraise SystemExit\n"
    )
    lines = [f"{i},{s:.4f},{'ab'[i % 2]}" for i, s in enumerate(STARTS)]
    (tmp_path / "day.1.csv").write_text("\n".join(["trial,cue,condition", *lines]))
    return path


def made(folder, **options):
    return lfads.read_session(lfads.prepare(folder, "out", bin_width_s=WIDTH, **options))


def in_order(session):
    data = np.concatenate([session.train.data, session.valid.data])
    return data[np.argsort(np.concatenate([session.train.inds, session.valid.inds]))]


def test_good_units_around_the_events_of_a_table(folder):
    session = made(folder, **TRIALS)
    assert session.name == "day.1"
    assert session.neuron_ids.tolist() == [0, 5, 12]
    expected = np.zeros((N_TRIALS, 40, 3), int)
    for d, unit in enumerate((0, 5, 12)):
        own = SAMPLES[CLUSTERS == unit].astype(np.int64)
        for e, start in enumerate(STARTS):
            bins = (own - round((start - 0.2) * RATE)) // round(WIDTH * RATE)  # whole samples
            expected[e, :, d] = np.bincount(bins[(bins >= 0) & (bins < 40)], minlength=40)
    np.testing.assert_array_equal(in_order(session), expected)
    np.testing.assert_allclose(np.sort(session.train.event_times_s)[:1], STARTS[1], atol=2)
    assert not os.path.exists("was run")


def test_options_of_the_command(folder, capsys):
    words = [str(folder), "--out", "out", "--bin-width-s", "0.02", "--chop-bins", "50"]
    for asked, ids in (
        (["good,mua"], [0, 3, 5, 12]),
        (["good", "noise"], [0, 5, 7, 12]),
        (["MUA"], [3]),
        (["all"], [0, 3, 5, 7, 12]),
        ([], [0, 5, 12]),
    ):
        assert main([*words, *(["--unit-quality", *asked] if asked else [])]) == 0
        assert lfads.read_session("out/day.1.h5").neuron_ids.tolist() == ids
    assert "left out: 2 units that are not good: 1 mua, 1 noise" in capsys.readouterr().out
    assert main([*words, "--unit-quality", "great"]) == 1
    told = capsys.readouterr().err
    assert "none of its 5 units is great; found good (3), mua (1), noise (1); choose others" in told
    assert "--unit-quality good, or --unit-quality all" in told
    assert main([str(folder / "."), *words[1:], "--leave-out", "5"]) == 0
    assert lfads.read_session("out/day.1.h5").neuron_ids.tolist() == [0, 12]


def test_what_tables_say_is_kept(folder):
    (folder / "cluster_info.tsv").write_text(
        "cluster_id\tch\tdepth\tfr\tKSLabel\tgroup\n0\t4\t80.0\t3.1\tmua\tmua\n12\t9\t\t1\tgood\t\n"
    )
    (folder / "cluster_Amplitude.tsv").write_text("cluster_id\tAmplitude\n7\t12.5\n")
    units = kilosort.read(folder, Settings()).units
    assert units.ids.tolist() == IDS.tolist()
    assert set(units.columns) == {"group", "ch", "depth", "fr", "KSLabel", "Amplitude"}
    np.testing.assert_array_equal(units.columns["depth"], [80, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(units.columns["Amplitude"], [np.nan] * 3 + [12.5, np.nan])
    (folder / "cluster_notes.tsv").write_bytes("cluster_id\tnotes\n0\tschön".encode("latin1"))
    with pytest.warns(UserWarning, match="cluster_notes.tsv: cannot be read .* is left out"):
        assert set(kilosort.read(folder, Settings()).units.columns) == set(units.columns)
    # what a person said in Phy comes first
    assert units.quality.tolist() == ["good", "mua", "good", "noise", "good"]


@pytest.mark.parametrize(
    ("tables", "ids"),
    [
        ({"cluster_info.tsv": "id\tgroup\n0\tgood\n3\t\n"}, [0]),
        ({"cluster_KSLabel.tsv": "cluster_id\tKSLabel\n0\tgood\n7\tgood\n3\tmua\n"}, [0, 7]),
        # Phy's table before anybody has sorted
        ({"cluster_group.tsv": "cluster_id\tgroup\n",
          "cluster_KSLabel.tsv": "cluster_id\tKSLabel\n3\tgood\n"}, [3]),
        # as SpikeInterface exports to Phy
        ({"cluster_group.tsv": "cluster_id\tgroup\n0\tunsorted\n3\tunsorted\n",
          "cluster_KSLabel.tsv": "cluster_id\tKSLabel\n3\tgood\n"}, [3]),
        ({"cluster_info.tsv": "cluster_id\tKSLabel\tgroup\n5\tgood\t\n7\tmua\t\n"}, [5]),
        ({"cluster_group.tsv": "cluster_id\tKSLabel\n5\tgood\n7\tmua\n"}, [5]),
    ],
)  # fmt: skip
def test_labels_of_several_tables(folder, tables, ids):
    (folder / "cluster_group.tsv").unlink()
    for name, text in tables.items():
        (folder / name).write_text(text)
    assert made(folder, **CHOPS).neuron_ids.tolist() == ids


def test_as_kilosort_leaves_it(folder):
    """Without Phy's files: templates stand for clusters, and the rate is an option."""
    (folder / "cluster_group.tsv").unlink()
    (folder / "params.py").unlink()
    (folder / "spike_clusters.npy").rename(folder / "spike_templates.npy")
    (folder / "sorter_output").mkdir()  # where SpikeInterface has it
    for path in folder.glob("*.npy"):
        path.rename(folder / "sorter_output" / path.name)
    with pytest.raises(LFADSError, match=r"params.py: is missing.*give sampling_rate_hz=30000"):
        made(folder, **CHOPS)
    with pytest.warns(UserWarning, match="no table says which clusters are good .* all 5 are"):
        session = made(folder, **CHOPS, sampling_rate_hz=RATE)
    assert session.neuron_ids.tolist() == IDS.tolist()
    with (
        pytest.warns(UserWarning, match="no table says"),
        pytest.raises(LFADSError, match="does not say how good"),
    ):
        made(folder, **CHOPS, sampling_rate_hz=RATE, unit_quality="good")


def test_trials_in_samples(folder):
    expected = in_order(made(folder, **TRIALS))
    lines = [f"{round(s * RATE)}" for s in STARTS]
    (folder.parent / "day.1.csv").write_text("\n".join(["cue", *lines]))
    session = made(folder, **TRIALS, time_unit="samples", sampling_rate_hz=RATE)
    np.testing.assert_array_equal(in_order(session), expected)
    with pytest.warns(UserWarning, match="states a sample_rate of 25000; sampling_rate_hz=20000"):
        made(folder, **CHOPS, sampling_rate_hz=20_000)


def test_held_out_units_by_a_column(folder):
    (folder / "cluster_info.tsv").write_text("cluster_id\tapart\n0\t0\n3\t0\n5\t1\n7\t0\n12\t0\n")
    assert made(folder, **CHOPS, held_out="apart").held_out_neurons.tolist() == [1]
    with pytest.raises(LFADSError, match="has no away; .*found group, apart; expected held_out"):
        made(folder, **CHOPS, held_out="away")


class Payload:
    def __reduce__(self):
        return os.mkdir, ("was run",)


def save(name, values):
    return lambda folder: np.save(folder / name, values)


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def remove(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (remove("spike_times.npy"), "has no spike_times.npy; expected the time of each spike"),
        (remove("spike_clusters.npy"), r"has no spike_clusters.npy \(nor spike_templates.npy\)"),
        (save("spike_clusters.npy", CLUSTERS[:-1]), "6000 entries, spike_clusters.npy has 5999"),
        (save("spike_times.npy", np.roll(SAMPLES, 7)), "times run backwards 1 times, first after"),
        (save("spike_times.npy", SAMPLES / RATE), "expected whole numbers: .* in seconds go into"),
        (save("spike_times.npy", np.full(6000, np.nan)), "entry 0 is nan; expected whole numbers"),
        (save("spike_times.npy", SAMPLES.reshape(2, -1)), "is 2×3000; expected one value for each"),
        (save("spike_times.npy", np.array(["a"])), "holds values of type <U1; expected whole"),
        (save("spike_times.npy", np.array(Payload(), object)), "Python objects in dtype"),
        (
            lambda f: (f / "spike_times.npy").write_bytes(pickle.dumps(Payload())),
            r"spike_times.npy: cannot be read \(.*magic string",
        ),
        (
            lambda f: os.truncate(f / "spike_times.npy", 5000),
            r"spike_times.npy: cannot be read .*; copy or export it again",
        ),
        (write("cluster_group.tsv", GROUPS.replace("good", "mua")), r"mua \(4\), noise \(1\)"),
        (write("cluster_group.tsv", "unit\tgroup\n1\tgood\n"), "expected a column cluster_id"),
        (write("params.py", "dat_path = 'x'\n"), "states no sample_rate.*give sampling_rate_hz"),
        (write("params.py", "sample_rate = open('x')\n"), "sample_rate is .* a positive number"),
        (write("params.py", "sample_rate = -1\n"), "sample_rate is '-1'; expected a positive"),
        (write("params.py", "sample_rate = nan\n"), "sample_rate is 'nan'; expected a positive"),
    ],
)  # fmt: skip
def test_faults(folder, act, said):
    act(folder)
    with pytest.raises(LFADSError, match=said) as error:
        made(folder, **CHOPS)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not os.path.exists("was run")


@pytest.mark.filterwarnings("ignore:.*no table says which clusters are good")
def test_damaged_folders_are_read_or_refused(folder):
    files = sorted(path for path in folder.iterdir())
    refused = refused_when_damaged(files, 200, lambda: kilosort.read(folder, Settings()))
    assert 20 < len(refused) < 180
    assert max(map(len, refused)) < 2000
