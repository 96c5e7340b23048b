"""Tables without a header, and tables of counts with a column for each neuron."""

import numpy as np
import pandas as pd
import pytest

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.readers import read_file
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.recordings.tables import read_table
from lfads_lightning.recordings.trials import cut_trials

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(RNG.uniform(0.5, 2, 5), (12, 10, 5))
NAMES = ["a1", "a2", "b1", "b2", "c"]


def write(path, columns):
    pd.DataFrame(columns).to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def wide(counts=COUNTS, **more):
    flat = np.concatenate(list(counts))
    return more | {name: flat[:, k] for k, name in enumerate(NAMES)}


def in_order(path):
    session = lfads.read_session(path)
    order = np.argsort(np.concatenate([session.train.inds, session.valid.inds]))
    return np.concatenate([session.train.data, session.valid.data])[order], session


def test_table_without_a_header(tmp_path, capsys):
    unit, time = RNG.integers(0, 3, 900), RNG.uniform(0, 30, 900)
    rows = np.stack([unit, time], axis=1)
    np.savetxt(tmp_path / "a.csv", rows, fmt="%.5f", delimiter=",")
    words = [str(tmp_path / "a.csv"), "--out", str(tmp_path), "--bin-width-s", "0.1"]
    words += ["--chop-bins", "10"]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "; if it has none, name them with --columns unit time" in told
    assert main([*words, "--columns", "unit", "time"]) == 0
    np.savetxt(tmp_path / "b.csv", rows, fmt="%.5f", delimiter=",", header="unit,time", comments="")
    assert main([str(tmp_path / "b.csv"), *words[1:]]) == 0
    np.testing.assert_array_equal(in_order(tmp_path / "a.h5")[0], in_order(tmp_path / "b.h5")[0])
    for names, said in (
        (["unit"], "rows have 2 columns, the option columns gives 1 names (unit)"),
        (["unit", "unit"], "expected one for each, each once"),
    ):
        capsys.readouterr()
        assert main([*words, "--columns", *names]) == 1
        assert said in capsys.readouterr().err
    assert main([str(tmp_path / "b.csv"), *words[1:], "--columns", "unit,time"]) == 1
    assert "its first row holds no number, but names" in capsys.readouterr().err
    np.savez(tmp_path / "c.npz", counts=COUNTS)
    assert main([str(tmp_path / "c.npz"), "--out", str(tmp_path), "--columns", "unit"]) == 1
    assert "is no table" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_counts_of_one_recording(tmp_path, suffix):
    columns = wide(time=np.arange(120) * 0.02)
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        pd.DataFrame(columns).to_parquet(path)
    else:
        write(path, columns)
    data, session = in_order(lfads.prepare(path, tmp_path, chop_bins=10))
    np.testing.assert_array_equal(data, COUNTS)
    assert session.neuron_ids.tolist() == NAMES
    assert session.bin_width_s == 0.02
    frame, _ = in_order(lfads.prepare(pd.DataFrame(columns), tmp_path, name="f", chop_bins=10))
    np.testing.assert_array_equal(frame, COUNTS)


def test_counts_of_trials_that_lie_among_each_other(tmp_path):
    trial, condition = np.repeat(np.arange(12), 10), np.repeat(["left", "right"], 60)
    table = pd.DataFrame(wide(trial=trial, bin=np.tile(np.arange(10), 12), condition=condition))
    table["speed"] = np.linspace(0, 1, 120)
    mixed = table.sort_values(["bin", "trial"], kind="stable")
    mixed.to_csv(tmp_path / "a.csv", index=False)
    data, session = in_order(lfads.prepare(tmp_path / "a.csv", tmp_path, behaviour="speed"))
    np.testing.assert_array_equal(data, COUNTS)
    sides = np.array(["left", "right"])[(session.train.inds > 5).astype(int)]
    assert session.train.condition.tolist() == sides.tolist()
    first = np.flatnonzero(session.train.inds == 1)[0]
    np.testing.assert_allclose(session.train.behaviour[first, :, 0], table["speed"][10:20], 1e-6)


def test_trials_of_unequal_length(tmp_path):
    lengths = np.arange(5, 17)
    trials = [RNG.poisson(1.0, (n, 5)) for n in lengths]
    path = write(tmp_path / "a.csv", wide(trials, trial=np.repeat(np.arange(12) + 40, lengths)))
    settings = Settings(where="trial > 42")
    found = cut_trials(read_file(path, settings), settings)
    assert found.numbers.tolist() == list(range(3, 12))
    assert found.lengths.tolist() == lengths[3:].tolist()
    counts = found.counts(np.arange(9))
    for own, expected in zip(counts, trials[3:], strict=True):
        np.testing.assert_array_equal(own[: len(expected)], expected)


def test_what_is_no_table_of_counts(tmp_path):
    """Spikes with odd names are not taken for neurons; what is asked for is."""
    spikes = {"cell": RNG.integers(0, 3, 50), "moment": RNG.uniform(0, 9, 50)}
    path = write(tmp_path / "a.csv", spikes)
    said = "expected the neuron of a spike .*; or, if a row is a bin .* give rows=bins"
    with pytest.raises(LFADSError, match=said):
        lfads.prepare(path, tmp_path, chop_bins=5, bin_width_s=0.1)
    options = {"unit_column": "cell", "time_column": "moment"}
    lfads.prepare(path, tmp_path, chop_bins=5, bin_width_s=0.1, **options)
    two = write(tmp_path / "b.csv", {"a": COUNTS[:, 0, 0], "b": COUNTS[:, 0, 1]})
    lfads.prepare(two, tmp_path, chop_bins=2, rows="bins")
    assert lfads.read_session(tmp_path / "b.h5").neuron_ids.tolist() == ["a", "b"]
    uneven = write(tmp_path / "c.csv", wide(time=np.sort(RNG.uniform(0, 9, 120))))
    with pytest.raises(LFADSError, match="time rises by .* bins of one width"):
        lfads.prepare(uneven, tmp_path, chop_bins=5)
    with pytest.raises(LFADSError, match="expected a column of numbers for each neuron"):
        lfads.prepare(write(tmp_path / "d.csv", {"time": [1.0, 2.0]}), tmp_path, rows="bins")


def test_what_pandas_and_r_write_beside_a_table(tmp_path):
    """Row numbers are no neuron; true and false are no texts."""
    path = tmp_path / "a.csv"
    path.write_text('"",a,b,c,ok\n0,1,2,3,TRUE\n1,0,1,5,FALSE\n2,0,2,2,\n')
    table = read_table(path)
    assert list(table) == ["a", "b", "c", "ok"]
    np.testing.assert_array_equal(table["ok"], [1, 0, np.nan])
    path.write_text("Unnamed: 0,ok,said\n1,True,true\n4,False,maybe\n")
    table = read_table(path)
    assert table["ok"].tolist() == [True, False]
    assert table["said"].tolist() == ["true", "maybe"]
    assert "Unnamed: 0" in table  # it does not count the rows
