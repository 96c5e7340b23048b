"""Averages of the weights: what is judged by them, and that a run which goes on keeps them."""

import torch

from lfads_lightning.data.sessions import sessions_from_arrays
from lfads_lightning.training.checkpoint_files import load_checkpoint, require_checkpoint
from lfads_lightning.training.fit import fit
from lfads_lightning.training.format import state_of

AVERAGED = {
    "average_weights": True, "optimizer": "adamw", "learning_rate_init": 0.02,
    "criterion": "hidden_recon", "learning_rate_stop": 0.0, "kl_increase_steps": 1,
    "l2_increase_steps": 1,
}  # fmt: skip


def run(new_config, counts, folder, **more):
    sessions = sessions_from_arrays(
        {"a": counts}, {"a": counts[:6]}, output_dist="poisson", ext_input_dim=0, factors_dim=3
    )
    return fit(new_config(**AVERAGED | more), sessions, folder)


def test_a_run_that_goes_on_is_the_run_that_was_not_cut_off(new_config, counts, tmp_path):
    run(new_config, counts, tmp_path / "cut", max_epochs=2)
    run(new_config, counts, tmp_path / "cut", max_epochs=4)
    run(new_config, counts, tmp_path / "whole", max_epochs=4)
    cut, whole = (
        load_checkpoint(require_checkpoint(tmp_path / name, "checkpoint"))
        for name in ("cut", "whole")
    )
    for weights in ("state_dict", "trained_weights"):
        assert all(torch.equal(v, whole[weights][k]) for k, v in cut[weights].items())
    assert any(
        not torch.equal(value, whole["trained_weights"][name])
        for name, value in whole["state_dict"].items()
    )
    # they have no part in training: without them it goes on as if there had been none
    run(new_config, counts, tmp_path / "whole", max_epochs=5, average_weights=False)
    run(new_config, counts, tmp_path / "plain", max_epochs=5, average_weights=False)
    whole, plain = (
        load_checkpoint(require_checkpoint(tmp_path / name, "checkpoint"))
        for name in ("whole", "plain")
    )
    assert "trained_weights" not in whole
    assert all(torch.equal(v, plain["state_dict"][k]) for k, v in whole["state_dict"].items())


def test_validation_is_of_the_averages_that_are_kept(new_config, counts, tmp_path):
    fitted = run(new_config, counts, tmp_path / "run", max_epochs=6)
    still = run(
        new_config, counts, tmp_path / "still", max_epochs=1, learning_rate_init=1e-30,
        criterion_smoothing=0.0, start_from=str(tmp_path / "run"),
    )  # fmt: skip
    kept = state_of(load_checkpoint(require_checkpoint(tmp_path / "run", "checkpoint_lve")))
    assert all(torch.equal(v, kept[k]) for k, v in fitted.model.state_dict().items())
    assert still.model.state_dict().keys() == kept.keys()
    assert abs(still.criterion - fitted.criterion) < 0.5
