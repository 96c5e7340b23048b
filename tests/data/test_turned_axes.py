"""Arrays that are not trials × bins × neurons: noticed in every reader, with the order to give."""

import itertools
import shlex

import h5py
import numpy as np
import pytest
from scipy.io import savemat

import lfads_lightning as lfads
from lfads_lightning.cli.check import main as check_main
from lfads_lightning.cli.prepare import main as prepare_main
from lfads_lightning.config import LFADSError
from lfads_lightning.data.orientation import AXES, likely_axes, transposition
from lfads_lightning.data.synthetic import SYNTHETIC, generate

RNG = np.random.default_rng(1)
RATES = RNG.lognormal(-1.5, 0.8, 24)


def counts(n_trials=40, n_bins=50, rates=RATES, *, modulation=0.0, gain=0.0, seed=0):
    """Counts (E, T, D); ``modulation`` in time, slow in each trial; ``gain`` of whole trials."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (n_trials, 1, len(rates)))
    time = np.linspace(0, 2 * np.pi, n_bins)[None, :, None]
    slow = np.exp(modulation * np.sin(time + phase))
    return rng.poisson(slow * rates * np.exp(gain * rng.normal(size=(n_trials, 1, 1))))


@pytest.mark.parametrize("order", list(itertools.permutations(AXES)), ids="-".join)
def test_every_order_of_axes(order):
    """What cannot be told is which of two other axes is time, where nothing changes in time."""
    array = counts(modulation=1.0).transpose([AXES.index(name) for name in order])
    found = likely_axes(array)
    if order[2] == "neurons":  # trials and bins in the other order show in no rate
        assert found is None
    else:
        assert found == order
        assert array.transpose(transposition(found)).shape == (40, 50, 24)


@pytest.mark.parametrize(
    "array",
    [
        counts(),
        counts(modulation=1.5),
        counts(gain=0.5),
        counts(3),
        counts(40, 6),
        counts(rates=RATES[:1], gain=1.0),
        counts(rates=RATES[:4], gain=1.0),
        counts(rates=np.sort(RATES)),
        counts(rates=0.01 * RATES),
        # a burst that all neurons share, in one bin
        counts() + 20 * (np.arange(50) == 25)[:, None],
        counts() * (1 + 5 * (np.arange(50) > 25)[:, None]),
        np.zeros((5, 10, 20)),
        RNG.normal(size=(20, 30, 12)),
        np.cumsum(RNG.normal(size=(20, 30, 12)), 1),
        np.full((5, 10, 20), np.nan),
    ],
)
def test_what_is_in_order_is_left_alone(array):
    assert likely_axes(array) is None


@pytest.mark.parametrize("name", SYNTHETIC)
def test_embedded_data_sets_are_in_order(name):
    for arrays in generate(name).values():
        assert likely_axes(np.asarray(arrays["train_data"])) is None


def test_real_values_that_last_along_their_last_axis():
    walks = np.cumsum(np.random.default_rng(0).normal(size=(30, 60, 10)), 1)
    assert likely_axes(walks.transpose(0, 2, 1)) == ("trials", "neurons", "bins")


READERS = {
    "npz": lambda path, array: np.savez(path, counts=array),
    "mat": lambda path, array: savemat(path, {"counts": array}),
    "mat cells": lambda path, array: savemat(path, {"counts": cells(array)}),
}


def cells(array):
    out = np.empty((1, len(array)), object)
    out[0, :] = list(array)
    return out


@pytest.mark.parametrize("reader", READERS)
def test_the_middle_axis_in_every_reader(tmp_path, reader, capsys):
    """The order told, typed as it stands, is right; the other one that is told works, too."""
    turned = counts(30, 40).transpose(0, 2, 1).astype(float)
    path = tmp_path / f"a.{reader[:3]}"
    READERS[reader](path, turned)
    words = [str(path), "--out", str(tmp_path)]
    assert prepare_main(words) == 1
    error = capsys.readouterr().err
    assert "30×24×40, and it differs along its second axis as neurons do" in error
    told, other = (part.split(",")[0].split(";")[0] for part in error.split("--axes ")[1:])
    assert told == "trials neurons bins"
    assert prepare_main([*words, "--axes", *shlex.split(told)]) == 0
    assert lfads.read_session(tmp_path / "a.h5").train.data.shape == (24, 40, 24)
    assert prepare_main([*words, "--min-rate-hz", "0", "--axes", *shlex.split(other)]) == 0


def test_labels_tell_which_axis_is_which():
    array = counts(20, 30, RATES[:12])
    for order in itertools.permutations(AXES):
        turned = array.transpose([AXES.index(name) for name in order])
        given = {"counts": turned, "condition": np.arange(20) % 4, "neuron_ids": np.arange(12)}
        if order == AXES:
            continue
        with pytest.raises(LFADSError) as error:
            lfads.prepare(given, "never", name="a")
        assert f"give axes={order}" in str(error.value)


def test_a_continuous_recording_of_neurons_by_bins():
    with pytest.raises(LFADSError, match=r"first axis as neurons do.*axes=\('neurons', 'bins'\)"):
        lfads.prepare({"counts": counts(1, 60, np.tile(5 * RATES, 4))[0].T}, "never", name="a")


def test_session_files_and_arrays(tmp_path, capsys):
    turned = counts().transpose(0, 2, 1)
    note = (
        r"it differs along its second axis as neurons do.*numpy.transpose\(train_data, \(0, 2, 1\)"
    )
    with pytest.warns(UserWarning, match=note):
        lfads.write_session(tmp_path / "a.h5", train_data=turned, valid_data=turned)
    assert check_main([str(tmp_path / "a.h5")]) == 0
    assert "note: train_data is 40×24×50, and it differs" in capsys.readouterr().out
    with h5py.File(tmp_path / "a.h5") as file, pytest.warns(UserWarning, match=note):
        lfads.fit(
            file["train_data"][()], lfads_save_dir=tmp_path / "run", max_epochs=1, report=False,
            device="cpu:0",
            recipe="original", gen_dim=4, factors_dim=2, ic_enc_dim=4, ci_enc_dim=4, con_dim=4,
        )  # fmt: skip
