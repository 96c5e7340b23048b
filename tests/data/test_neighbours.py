"""Other programs' files, and the remedies of the readers: each, as it is printed, works."""

import re
import shlex
import subprocess
import sys

import h5py
import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning.cli.check import main as check_main
from lfads_lightning.cli.prepare import main as prepare_main
from lfads_lightning.config import LFADSError

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(RNG.uniform(0.3, 2, 12), (20, 30, 12))


def run_told(text, cwd):
    """Run the Python command that an error tells, as a shell would."""
    words = shlex.split(text[text.index("python -c ") :])
    subprocess.run([sys.executable, "-c", words[2].rstrip(";")], cwd=cwd, check=True)


def test_encoded_and_reconstructed_apart(tmp_path, capsys):
    path = tmp_path / "a b.h5"
    with h5py.File(path, "w") as file:
        for split, x in (("train", COUNTS), ("valid", COUNTS[:5])):
            file[f"{split}_encod_data"], file[f"{split}_recon_data"] = x[..., :9], x
    assert check_main([str(path)]) == 1
    run_told(capsys.readouterr().err, tmp_path)
    session = lfads.read_session(path)
    assert session.held_out_neurons.tolist() == [9, 10, 11]
    assert [session.train.data.shape, session.valid.data.shape] == [(20, 30, 12), (5, 30, 12)]


@pytest.mark.parametrize("held_out", [True, False])
def test_held_in_and_held_out_apart(tmp_path, capsys, held_out):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["train_spikes_heldin"] = COUNTS[..., :9]
        if held_out:
            file["train_spikes_heldout"] = COUNTS[..., 9:]
    assert check_main([str(tmp_path / "b.h5")]) == 1
    run_told(capsys.readouterr().err, tmp_path)
    session = lfads.read_session(tmp_path / "b_session.h5")
    assert [len(session.train.data), len(session.valid.data)] == [16, 4]
    assert session.data_dim == (12 if held_out else 9)


def test_spikes_without_their_neurons_or_times(tmp_path, capsys):
    t = np.sort(RNG.uniform(0, 60, 3000))
    np.savez(tmp_path / "a.npz", t=t, index=RNG.integers(0, 8, 3000), keys=np.arange(8))
    words = [str(tmp_path / "a.npz"), "--out", str(tmp_path), "--bin-width-s", "0.02",
             "--chop-bins", "50"]  # fmt: skip
    assert prepare_main(words) == 1
    option = re.search("perhaps (--.*)$", capsys.readouterr().err)[1]
    assert option == "--unit-column index"
    assert prepare_main([*words, *shlex.split(option)]) == 0
    with pytest.raises(LFADSError, match="perhaps time_column=when"):
        lfads.prepare({"unit": RNG.integers(0, 8, 3000), "when": t}, tmp_path, name="b")


def test_ids_are_given_as_numbers_or_texts(tmp_path):
    for ids in (3, [3], ("3",), "3"):
        made = lfads.prepare({"counts": COUNTS}, tmp_path, name="a", leave_out=ids)
        assert lfads.read_session(made).data_dim == 11
