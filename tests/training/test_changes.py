"""A run that has begun: what a changed parameter does to it, and whether new data fit its model."""

import json
import re
import shutil
import warnings

import h5py
import numpy as np
import pytest
import torch
from conftest import remembered

import lfads_lightning as lfads
from lfads_lightning import params
from lfads_lightning.cli.evaluate import main as evaluate_main
from lfads_lightning.config import LFADSError
from lfads_lightning.runs.run import Run
from lfads_lightning.training.changes import BEGINNING, CHANGEABLE, FIXED, OF_OTHER_KINDS

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(RNG.uniform(0.3, 1.5, 6), (12, 10, 6))
SMALL = {
    "ic_dim": 3, "factors_dim": 3, "ic_enc_dim": 4, "gen_dim": 5, "ci_enc_dim": 4, "con_dim": 4,
    "co_dim": 1, "kl_increase_steps": 5, "l2_increase_steps": 5, "device": "cpu:0",
    "recipe": "original",
    "report": False, "batch_size": 5, "plot_every_n_epochs": 0, "num_score_samples": 0,
}  # fmt: skip
IDS = np.arange(6) + 100


def fit(folder, max_epochs=2, data=COUNTS, **more):
    more = {"bin_width_s": 0.01, "neuron_ids": IDS} | more
    return lfads.fit(
        data, valid_data=data[:4], lfads_save_dir=folder, max_epochs=max_epochs, **SMALL | more
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    fit(folder)
    return folder


@pytest.fixture
def begun(run, tmp_path):
    """A copy of the run, to go on with."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def recorded(folder, name):
    return params.flat_value(Run(folder).read_config(), name)


def test_every_parameter_stands_once():
    """A new parameter must say what a change of it does to a run that has begun."""
    names = set(params.dotted_names())
    assert FIXED | BEGINNING | CHANGEABLE == names
    assert len(FIXED) + len(BEGINNING) + len(CHANGEABLE) == len(names)
    assert names > OF_OTHER_KINDS


CHANGES = {
    "cell_weight_scale": 3.0, "gen_cell_input_weight_scale": 3.0, "gen_cell_rec_weight_scale": 3.0,
    "prior_ar_atau": 50.0, "prior_ar_nvar": 1.0, "learning_rate_init": 0.001,
    "do_log_readout_bias": True, "do_start_at_mean_rates": True, "optimizer": "adamw",
    "adamw_eps": 1e-3, "adamw_beta1": 0.5,
    "do_standardise_input": True, "encoder_bin_size": 3, "candidates": ["one_input", "no_inputs"],
    "candidate_learning_rates": [0.1, 0.2],
    "recipe": "auto", "max_minutes": 5.0, "adamw_beta2": 0.9, "weight_decay": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.filterwarnings("ignore:.*no effect with optim:UserWarning")  # AdamW's, without it
def test_what_a_run_began_with_is_told_and_kept(begun, name):
    was = recorded(begun, name)
    shown = getattr(was, "name", was)
    now = re.escape(str(CHANGES[name]))
    told = rf"started with {params.dotted_names()[name]}={shown} \(now {now}\)"
    with pytest.warns(UserWarning, match=told):
        fit(begun, 3, **{name: CHANGES[name]})
    assert recorded(begun, name) == was


def test_every_change_of_a_beginning_is_tried():
    others = {"burn_in_epochs", "ic_prior_var_scale"}  # of searches; bound to the two beside it
    assert set(CHANGES) | others == BEGINNING


def test_the_start_of_a_trained_variance(tmp_path):
    bounds = {"ic_prior_var_min": 0.05, "ic_prior_var_max": 0.5}
    fit(tmp_path / "run", 1, **bounds)
    with pytest.warns(UserWarning, match=r"ic_prior_var_scale=0.1 \(now 0.2\)"):
        fit(tmp_path / "run", 2, **bounds, ic_prior_var_scale=0.2)


@pytest.mark.parametrize(
    "change",
    [
        {"ic_prior_var_min": 0.05}, {"ic_prior_var_max": 0.2}, {"do_legacy_ic_prior_var": True},
        {"gen_dim": 6}, {"factors_dim": 4}, {"ic_dim": 4}, {"ic_enc_dim": 5}, {"ci_enc_dim": 5},
        {"con_dim": 5}, {"co_dim": 2}, {"do_causal_controller": True},
        {"do_feed_factors_to_controller": False}, {"held_out_neurons": 0.5}, {"forward_steps": 2},
        {"output_dist": "gaussian"}, {"algorithm": "pbt"},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_change_is_refused(begun, change):
    before = (begun / "config.yaml").read_text()
    with (
        warnings.catch_warnings(),
        pytest.raises(LFADSError, match="|".join([*change, "held", "forward"])),
    ):
        warnings.simplefilter("ignore")
        fit(begun, 3, **change)
    assert (begun / "config.yaml").read_text() == before


def test_a_part_that_is_not_there_is_kept_as_it_was(tmp_path):
    fit(tmp_path / "run", 1, co_dim=0)
    with pytest.warns(UserWarning, match=r"model.con_dim=4 \(now 9\)"):
        fit(tmp_path / "run", 2, co_dim=0, con_dim=9)
    assert recorded(tmp_path / "run", "con_dim") == 4


def test_a_rate_that_begins_again(begun):
    fit(begun, 3, learning_rate_init=0.001, do_reset_learning_rate=True)
    assert recorded(begun, "learning_rate_init") == 0.001


def test_weights_alone_are_continued_with_a_new_optimiser(run, tmp_path):
    lfads.load(run).save(tmp_path / "saved")
    fit(tmp_path / "saved", 3, learning_rate_init=0.001)
    assert recorded(tmp_path / "saved", "learning_rate_init") == 0.001


def test_weights_of_another_run_have_begun_too(run, tmp_path):
    with pytest.warns(UserWarning, match=r"prior_ar_atau=10.0 \(now 50.0\)"):
        fit(tmp_path / "b", 1, start_from=run, prior_ar_atau=50.0, learning_rate_init=0.002)
    assert recorded(tmp_path / "b", "prior_ar_atau") == 10.0
    assert recorded(tmp_path / "b", "learning_rate_init") == 0.002


WIDER = "bin_width_s is 0.02 .*20 ms.* trained on bins of 0.01 s .*10 ms"
STRANGER = "without 105 and with 999, which the model does not know"
STRANGE_IDS = np.r_[IDS[:5], 999]


def session_file(folder, **more):
    folder.mkdir(exist_ok=True)
    given = {"train_data": COUNTS, "valid_data": COUNTS[:4], "bin_width_s": 0.01, "neuron_ids": IDS}
    lfads.write_session(folder / "day.h5", **(given | more))
    return folder


@pytest.mark.parametrize(
    ("more", "text"),
    [({"bin_width_s": 0.02}, WIDER), ({"neuron_ids": STRANGE_IDS}, STRANGER),
     ({"train_data": COUNTS[..., :4], "valid_data": COUNTS[..., :4], "neuron_ids": IDS[:4]},
      "without 104, 105; expected the 6 neurons")],
)  # fmt: skip
def test_data_of_other_bins_or_neurons(run, begun, tmp_path, more, text):
    """Refused by every kind, by lfads evaluate, and where training goes on or starts from it."""
    folder = session_file(tmp_path / "data", **more)
    session = lfads.read_session(folder / "day.h5")
    trained = lfads.load(run)
    ids = {"neuron_ids": session.neuron_ids, "bin_width_s": session.bin_width_s}
    data = session.train.data
    for method in (trained.posterior_push_mean, trained.posterior_sample_and_average):
        with pytest.raises(LFADSError, match=text):
            method(data, **ids)
    with pytest.raises(SystemExit):
        evaluate_main([str(run), "--data-dir", str(folder), "--stem", "day"])
    if data.shape[2] == 6:
        for given in ({"folder": begun, "max_epochs": 4},
                      {"folder": tmp_path / "b", "start_from": run}):  # fmt: skip
            with pytest.raises(LFADSError, match=text):
                fit(**given, data=data, **ids)


def test_neurons_in_another_order_are_put_in_the_models(run, begun, tmp_path):
    trained, turned = lfads.load(run), COUNTS[..., ::-1]
    expected = trained.posterior_push_mean(COUNTS)
    for ids in (IDS[::-1], IDS[::-1].astype(str)):
        with pytest.warns(UserWarning, match=r"not in the model's order.*100, 101, 102"):
            found = trained.posterior_push_mean(turned, neuron_ids=ids)
        np.testing.assert_array_equal(found.rates, expected.rates)
    folder = session_file(
        tmp_path / "data", train_data=turned, valid_data=turned[:4], neuron_ids=IDS[::-1]
    )
    with pytest.warns(UserWarning, match="not in the model's order"):
        _push(run, folder)
    with h5py.File(run / "model_runs_session_train_posterior_push_mean.h5") as file:
        assert file["neuron_ids"][()].tolist() == IDS.tolist()
        np.testing.assert_allclose(file["output_dist_params"][()], expected.rates, rtol=1e-5)
    with pytest.raises(LFADSError, match="another order .here 105, 104, 103 and 3"):
        fit(begun, 4, data=turned, neuron_ids=IDS[::-1])


def _push(run, folder):
    from lfads_lightning.cli.kinds import run_kind

    config = Run(run).read_config()
    config.data.data_dir, config.data.data_filename_stem = str(folder), "day"
    config.output.lfads_save_dir = str(run)
    run_kind(params.from_flat({"kind": "posterior_push_mean"}, base=config), Run(run))


def test_a_session_put_in_order_whole(run):
    from lfads_lightning.data.identity import Identity, in_order
    from lfads_lightning.data.sessions import assemble

    arrays = {
        "train_data": COUNTS, "train_truth": COUNTS * 2.0, "neuron_ids": IDS,
        "held_out_neurons": np.array([0, 2]), "alignment_bias_c": np.arange(6.0),
        "alignment_matrix_cxf": np.arange(12.0).reshape(6, 2),
    }  # fmt: skip
    session = assemble("a", "a", arrays)
    order = [3, 0, 5, 1, 4, 2]
    with pytest.warns(UserWarning, match="not in the model's order"):
        made = in_order(session, Identity(None, {"a": IDS[order].tolist()}))
    np.testing.assert_array_equal(made.train.data, COUNTS[..., order])
    np.testing.assert_array_equal(made.train.truth, 2 * COUNTS[..., order])
    np.testing.assert_array_equal(made.alignment_bias_c, order)
    np.testing.assert_array_equal(made.alignment_matrix_cxf[:, 0], 2 * np.array(order))
    assert made.neuron_ids[made.held_out_neurons].tolist() == [100, 102]


def test_trials_of_another_length(run):
    longer = np.concatenate([COUNTS, COUNTS], 1)
    with pytest.warns(UserWarning, match="trials have 20 bins, but the model was trained on 10"):
        lfads.load(run).posterior_push_mean(longer)
    with pytest.raises(LFADSError, match=r"neurons × bins, give x.transpose\(0, 2, 1\)"):
        lfads.load(run).posterior_push_mean(np.ones((3, 6, 10), int))


def test_checkpoints_that_say_nothing_of_bins_or_neurons(begun):
    """Those of earlier versions: they load, and take what they are given."""
    for path in (begun / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["lfads"].pop("bin_width_s") == 0.01
        assert checkpoint["lfads"].pop("neuron_ids") == {"session": IDS.tolist()}
        torch.save(checkpoint, path)
    trained = lfads.load(begun)
    trained.posterior_push_mean(COUNTS, neuron_ids=STRANGE_IDS, bin_width_s=0.5)
    fit(begun, 3, bin_width_s=0.02)


def test_identity_is_saved_with_a_model(run, tmp_path):
    lfads.load(run).save(tmp_path / "saved")
    assert lfads.load(tmp_path / "saved").identity == lfads.load(run).identity


def test_scores_of_other_data_have_a_file_of_their_own(begun, tmp_path, capsys):
    own = session_file(tmp_path / "own")
    config = Run(begun).read_config()
    config.data.data_dir, config.data.data_filename_stem = str(own), "day"
    Run(begun).write_config(config)
    remembered(begun)
    evaluate_main([str(begun)])
    before = (begun / "evaluation.json").read_text()
    there = session_file(tmp_path / "other $x", train_data=COUNTS[:8], valid_data=COUNTS[8:])
    capsys.readouterr()
    evaluate_main([str(begun), "--data-dir", str(there)])
    out = capsys.readouterr().out
    assert "evaluation.json, with the scores on the run's own data, is unchanged" in out
    (path,) = begun.glob("evaluation_of_other_x_day_*.json")
    assert str(path) in out
    assert (begun / "evaluation.json").read_text() == before != path.read_text()
    assert json.loads(path.read_text())["session"]["valid"]
    evaluate_main([str(begun), "--data-dir", str(own), "--metrics", "bits_per_spike"])
    assert "it replaces the old file, and holds only what --metrics selects" in (
        capsys.readouterr().out
    )
