"""lfads check: what it finds in made-up session files, what it says, and its exit status."""

import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning.cli.check import main
from lfads_lightning.recordings.findings import check_file
from lfads_lightning.runs.run import Run

E, T, D = 60, 40, 8


def counts(seed=0, mean=0.5):
    """Draw neurons that follow one slow signal, each with its own spikes."""
    rng = np.random.default_rng(seed)
    slow = np.exp(np.sin(np.linspace(0, 6, T))[None, :, None] + rng.normal(0, 0.5, (E, 1, D)))
    return rng.poisson(mean * slow).astype(np.uint8)


def write(tmp_path, data, name="a", **more):
    valid = np.arange(len(data)) % 5 == 0
    given = {"train_data": data[~valid], "valid_data": data[valid], "bin_width_s": 0.02} | more
    return lfads.write_session(tmp_path / f"{name}.h5", **given)


def test_sound_session(tmp_path, capsys):
    path = write(tmp_path, data := counts())
    (found,) = check_file(path)
    assert (found.n_trials, found.n_bins, found.n_neurons) == ({"train": 48, "valid": 12}, T, D)
    train = data[np.arange(E) % 5 != 0]
    np.testing.assert_allclose(found.rates, train.mean((0, 1)))
    assert (found.silent, found.duplicated, found.correlated) == ([], [], [])
    assert found.faults == found.cautions == []
    assert main([str(path), "--strict"]) == 0
    out = capsys.readouterr().out
    row = out.splitlines()[1].split()
    assert row[:7] == ["a", "48", "+", "12", "40", "8", "20"]
    median = np.sort(train.mean((0, 1)) / 0.02)[D // 2]
    assert f"- {median:.3g} -" in out


def test_silent_copied_and_shared_channels_are_named(tmp_path, capsys):
    data = counts()
    rng = np.random.default_rng(1)
    data[:, :, 2] = 0
    data[:, :, 5] = data[:, :, 1]
    shared = rng.poisson(0.5, data.shape[:2]).astype(np.uint8)  # cross-talk of 6 and 7
    data[:, :, 6] = rng.poisson(0.1, data.shape[:2]) + shared
    data[:, :, 7] = rng.poisson(0.1, data.shape[:2]) + shared
    data[7] = 0
    ids = np.arange(D) + 100
    path = write(tmp_path, data, neuron_ids=ids)
    (found,) = check_file(path)
    assert found.silent == [2]
    assert found.duplicated == [(1, 5)]
    assert [(i, j) for i, j, _ in found.correlated] == [(6, 7)]
    assert found.correlated[0][2] == pytest.approx(0.5 / 0.6, abs=0.1)
    assert found.empty_trials == {"train": 1, "valid": 0}
    assert main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "  note: silent neurons: 102; leave them out" in out
    assert "  note: neurons with the same spikes as another: 1; leave them out (lfads prep" in out
    assert "  note: pairs of neurons that share spikes: 1 (most of all 106 and 107" in out
    assert "  note: trials without spikes: 1" in out
    assert main([str(path), "--strict"]) == 1


def test_neurons_that_follow_one_signal_share_no_spikes(tmp_path):
    """Correlated as they are, within a bin and across bins."""
    rng = np.random.default_rng(0)
    signal = np.repeat(rng.gamma(0.3, 3.0, (E, T // 10)), 10, axis=1)
    data = rng.poisson(20 * signal[:, :, None] * np.ones(D)).astype(np.uint16)
    r = np.corrcoef(data.reshape(-1, D).T)
    assert r[0, 1] > 0.9
    with pytest.warns(UserWarning, match="the median rate is 1111 Hz"):
        path = write(tmp_path, data)
    (found,) = check_file(path)
    assert found.correlated == []


def plain(path, **arrays):
    """Write keys unchecked."""
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_data": np.full((4, 5, 2), np.nan)},
         "all entries of trial 0 of train_data are missing"),
        ({"train_data": np.array([[[1.0, -1], [2, 3]]])}, "counts per bin cannot be negative"),
        ({"train_data": np.ones((4, 5))}, "train_data has 2 dimensions (4×5); expected 3"),
        ({"valid_data": np.ones((4, 5, 2))}, "train_data is missing; found valid_data"),
        ({"train_data": np.ones((4, 5, 2)), "valid_data": np.ones((4, 5, 3))},
         "valid_data has 3 neurons, train_data has 2"),
        ({"train_data": np.ones((4, 5, 2)), "alignment_matrix_cxf": np.ones((3, 2))},
         "alignment_matrix_cxf is 3×2"),
        ({"train_data": np.ones((4, 5, 2)), "train_ext_input": np.ones((4, 4, 1))},
         "train_ext_input is 4×4×1; expected E×T×I"),
    ],
)  # fmt: skip
def test_what_training_refuses_is_a_finding(tmp_path, capsys, arrays, message):
    path = plain(tmp_path / "a.h5", **arrays)
    assert main([str(path)]) == 1
    printed = capsys.readouterr()
    assert message in printed.out + printed.err
    assert "Traceback" not in printed.err


def test_broken_and_missing_files(tmp_path, capsys):
    good = write(tmp_path, counts())
    broken = tmp_path / "b.h5"
    broken.write_bytes(good.read_bytes()[:-4000])
    assert main([str(broken), str(good)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {broken}: cannot be read (")
    assert len(printed.err.splitlines()) == 1
    assert "\n      a" in "\n" + printed.out or " a " in printed.out  # the good one is shown
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "c.h5")])
    assert end.value.code == 2


def test_sessions_that_cannot_be_trained_together(tmp_path, capsys):
    one, other = write(tmp_path, counts()), write(tmp_path, counts()[:, :30], "b")
    assert main([str(one), str(other)]) == 1
    assert "problem: sessions differ in bins per trial (30, 40)" in capsys.readouterr().out
    wide = write(tmp_path, counts(), "c", bin_width_s=0.05)
    assert main([str(one), str(wide)]) == 1
    assert "sessions differ in bin width in seconds (0.02, 0.05)" in capsys.readouterr().out


def test_sessions_of_unequal_trials_may_differ_in_the_longest(tmp_path, capsys):
    n_bins = np.where(np.arange(E) % 2, 20, 30)
    short = [trial[:n] for trial, n in zip(counts(), n_bins, strict=True)]
    one = lfads.prepare(short, tmp_path, name="one", source_bin_width_s=0.02)
    short[0] = counts()[0]
    other = lfads.prepare(short, tmp_path, name="other", source_bin_width_s=0.02)
    assert main([str(one), str(other)]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:3]
    assert " 20 - 30 " in first
    assert " 20 - 40 " in second
    (found,) = check_file(one)
    data = [short[i] for i in lfads.read_session(one).train.inds]
    np.testing.assert_allclose(found.rates, np.concatenate(data).mean(0))


def test_settings_are_understood_by_training(call, tmp_path, capsys):
    """The line that is printed can be typed, external inputs and alignment included."""
    data = counts()
    valid = np.arange(E) % 5 == 0
    inputs = np.ones((E, T, 2), np.float32)
    path = write(
        tmp_path / "a folder", data, train_ext_input=inputs[~valid], valid_ext_input=inputs[valid],
        alignment_matrix_cxf=np.ones((D, 3)), alignment_bias_c=np.zeros(D),
    )  # fmt: skip
    assert main([str(path)]) == 0
    told = capsys.readouterr().out
    (line,) = re.findall(r"lfads train (.*)", told)
    assert re.sub(r"\s+", " ", told.split("recipe=auto, for ")[1]).count("ext_input_dim 2") == 1
    small = ("trainer.max_steps=2", "trainer.device=cpu:0", "search.candidates=null")
    result = call(*shlex.split(line), *small, "output.report=false")
    assert result.code == 0, result.err
    config = Run(next(Path("outputs").glob("*/*"))).read_config()
    assert (config.data.ext_input_dim, config.model.factors_dim) == (2, 3)
