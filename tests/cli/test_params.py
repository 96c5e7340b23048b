"""Parameters as given by a user: names, types, bounds, files, contradictions, the table."""

import dataclasses
import json
import re
from enum import Enum

import numpy as np
import pytest
import torch
import yaml

from lfads_lightning import params
from lfads_lightning.config import (
    MAX_INT,
    Config,
    Feedback,
    Kind,
    LFADSError,
    OutputDist,
    Precision,
)
from lfads_lightning.runs.params_file import read_params_file

# the 61 names of the original's documentation page, in its order
DOCUMENTED = """
kind output_dist data_dir lfads_save_dir checkpoint_pb_load_name checkpoint_name
output_filename_stem max_ckpt_to_keep max_ckpt_to_keep_lve ps_nexamples_to_process ext_input_dim
data_filename_stem device csv_log num_steps_for_gen_ic inject_ext_input_to_gen cell_weight_scale
ic_dim factors_dim ic_enc_dim gen_dim gen_cell_input_weight_scale gen_cell_rec_weight_scale
ic_prior_var_min ic_prior_var_scale ic_prior_var_max ic_post_var_min co_prior_var_scale
prior_ar_atau prior_ar_nvar do_train_prior_ar_atau do_train_prior_ar_nvar do_causal_controller
controller_input_lag do_feed_factors_to_controller feedback_factors_or_rates co_dim ci_enc_dim
con_dim co_mean_corr_scale batch_size learning_rate_init learning_rate_decay_factor
learning_rate_stop learning_rate_n_to_compare max_grad_norm cell_clip_value do_train_io_only
do_train_encoder_only do_reset_learning_rate keep_prob temporal_spike_jitter_width l2_gen_scale
l2_con_scale kl_ic_weight kl_co_weight kl_start_step kl_increase_steps l2_start_step
l2_increase_steps _clip_value
""".split()

# defaults of the original; data_dir, lfads_save_dir and device name places, and are ours
ORIGINAL_DEFAULTS = {
    "kind": Kind.train,
    "output_dist": OutputDist.poisson,
    "checkpoint_pb_load_name": "checkpoint",
    "checkpoint_name": "lfads_vae",
    "output_filename_stem": "",
    "max_ckpt_to_keep": 5,
    "max_ckpt_to_keep_lve": 5,
    "ps_nexamples_to_process": MAX_INT,
    "ext_input_dim": 0,
    "data_filename_stem": "chaotic_rnn_inputs_g1p5",
    "device": "gpu:0",
    "csv_log": "fitlog",
    "num_steps_for_gen_ic": MAX_INT,
    "inject_ext_input_to_gen": False,
    "cell_weight_scale": 1.0,
    "ic_dim": 64,
    "factors_dim": 50,
    "ic_enc_dim": 128,
    "gen_dim": 200,
    "gen_cell_input_weight_scale": 1.0,
    "gen_cell_rec_weight_scale": 1.0,
    "ic_prior_var_min": 0.1,
    "ic_prior_var_scale": 0.1,
    "ic_prior_var_max": 0.1,
    "ic_post_var_min": 1e-4,
    "co_prior_var_scale": 0.1,
    "prior_ar_atau": 10.0,
    "prior_ar_nvar": 0.1,
    "do_train_prior_ar_atau": True,
    "do_train_prior_ar_nvar": True,
    "do_causal_controller": False,
    "controller_input_lag": 1,
    "do_feed_factors_to_controller": True,
    "feedback_factors_or_rates": Feedback.factors,
    "co_dim": 1,
    "ci_enc_dim": 128,
    "con_dim": 128,
    "co_mean_corr_scale": 0.0,
    "batch_size": 128,
    "learning_rate_init": 0.01,
    "learning_rate_decay_factor": 0.95,
    "learning_rate_stop": 1e-5,
    "learning_rate_n_to_compare": 6,
    "max_grad_norm": 200.0,
    "cell_clip_value": 5.0,
    "do_train_io_only": False,
    "do_train_encoder_only": False,
    "do_reset_learning_rate": False,
    "keep_prob": 0.95,
    "temporal_spike_jitter_width": 0,
    "l2_gen_scale": 2000.0,
    "l2_con_scale": 0.0,
    "kl_ic_weight": 1.0,
    "kl_co_weight": 1.0,
    "kl_start_step": 0,
    "kl_increase_steps": 2000,
    "l2_start_step": 0,
    "l2_increase_steps": 2000,
    "_clip_value": 80.0,
}

EVERY = [f for cls in params.groups().values() for f in dataclasses.fields(cls)]
EVERY = [f for f in EVERY if not dataclasses.is_dataclass(f.type)]


def says(*parts):
    """Match a message that holds these texts in this order."""
    return "(?s)" + ".*".join(re.escape(part) for part in parts)


def put(folder, text):
    path = folder / "my_params.yaml"
    path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text)
    return path


# --- the list of parameters ---


def test_documented_names_are_the_61_of_the_page():
    assert len(DOCUMENTED) == 61
    assert sorted(params.documented_names()) == sorted(DOCUMENTED)


def test_every_name_is_in_exactly_one_group():
    names = [f.name for f in EVERY]
    assert len(names) == len(set(names)) == len(params.dotted_names())


@pytest.mark.parametrize("name", ORIGINAL_DEFAULTS)
def test_default_is_the_originals(name):
    found = params.flat_value(Config(), name)
    assert found == ORIGINAL_DEFAULTS[name]
    assert type(found) is type(ORIGINAL_DEFAULTS[name])


def test_only_places_and_device_have_other_defaults():
    places = {"data_dir", "lfads_save_dir"}
    assert set(ORIGINAL_DEFAULTS) == set(DOCUMENTED) - places


def test_defaults_pass_their_own_checks_without_warning():
    assert params.check(Config()) == []


def test_every_default_is_inside_its_bounds():
    for f in EVERY:
        assert params.check_value(f.name, f.default, "default") == f.default


def test_table_lists_every_name_once():
    rows = params.parameter_table().splitlines()[2:]
    listed = [re.match(r"\| `([\w.]+)`", row).group(1) for row in rows]
    assert sorted(listed) == sorted(params.dotted_names().values())


def test_table_has_four_columns_in_every_row():
    for row in params.parameter_table().splitlines():
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row


def test_table_marks_ours_and_no_other():
    rows = params.parameter_table().splitlines()[2:]
    marked = {re.match(r"\| `(?:\w+\.)?(\w+)` \*", row) for row in rows} - {None}
    assert {m.group(1) for m in marked} == set(params.dotted_names()) - set(DOCUMENTED)


def test_help_shows_every_name():
    text = params.help_text()
    for dotted in params.dotted_names().values():
        assert f"  {dotted}=" in text


# --- names ---


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("Ic_dim", "ic_dim"),
        ("Prior_ar_nvar", "prior_ar_nvar"),
        ("do_train_prior_ar_atau_", "do_train_prior_ar_atau"),
        ("CO_DIM", "co_dim"),
        ("model.co_dim", "co_dim"),
        ("Model.Co_dim", "co_dim"),
        ("data.batch_size", "batch_size"),
        ("kind", "kind"),
        ("_clip_value", "_clip_value"),
        ("model._clip_value", "_clip_value"),
    ],
)
def test_spelling_is_understood(given, meant):
    assert params.canonical(given, "here") == meant


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_name_is_its_own_canonical_form(name):
    assert params.canonical(name, "here") == name
    assert params.canonical(params.dotted_names()[name], "here") == name


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("codim", "co_dim"),
        ("clip_value", "_clip_value"),
        ("loss.co_dim", "model.co_dim"),
        ("learning_rate", "learning_rate_"),
        ("keepprob", "keep_prob"),
        ("l2_gen_scal", "l2_gen_scale"),
        ("sed", "seed"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(given, nearest):
    with pytest.raises(LFADSError, match=says("here", repr(given), f"did you mean {nearest}")):
        params.canonical(given, "here")


@pytest.mark.parametrize("given", ["qqq", "", "model"])
def test_name_like_no_other_is_answered_with_the_way_to_the_list(given):
    with pytest.raises(LFADSError, match=says("here", repr(given), "--help lists them")):
        params.canonical(given, "here")


# --- values ---


@pytest.mark.parametrize(
    ("name", "given", "stored"),
    [
        ("co_dim", "2", 2),
        ("co_dim", 2.0, 2),
        ("co_dim", np.int64(2), 2),
        ("keep_prob", np.float32(0.5), 0.5),
        ("do_causal_controller", np.bool_(True), True),
        ("keep_prob", "1e-5", 1e-5),
        ("keep_prob", 1, 1.0),
        ("do_causal_controller", "true", True),
        ("do_causal_controller", "false", False),
        ("output_dist", "gaussian", OutputDist.gaussian),
        ("output_dist", OutputDist.gaussian, OutputDist.gaussian),
        ("kind", "prior_sample", Kind.prior_sample),
        ("precision", "float64", Precision.float64),
        ("max_epochs", None, None),
        ("max_epochs", 7, 7),
        ("csv_log", "", ""),
    ],
)
def test_value_is_taken_in_the_type_of_its_parameter(name, given, stored):
    found = params.check_value(name, given, "here")
    assert found == stored
    assert type(found) is type(stored)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("co_dim", 2.5, "an integer >= 0"),
        ("co_dim", "two", "an integer >= 0"),
        ("co_dim", True, "an integer >= 0"),
        ("co_dim", None, "an integer >= 0"),
        ("co_dim", [2], "an integer >= 0"),
        ("co_dim", {"a": 2}, "an integer >= 0"),
        ("co_dim", float("nan"), "an integer >= 0"),
        ("co_dim", "???", "an integer >= 0"),
        ("keep_prob", "high", "a number > 0 and <= 1"),
        ("keep_prob", True, "a number > 0 and <= 1"),
        ("keep_prob", None, "a number > 0 and <= 1"),
        ("do_causal_controller", "maybe", "true or false"),
        ("do_causal_controller", None, "true or false"),
        ("csv_log", True, "expected text"),
        ("csv_log", None, "expected text"),
        ("csv_log", ["a"], "expected text"),
        ("max_epochs", "many", "an integer or null >= 1"),
        ("output_dist", "Poisson", "one of poisson, gaussian"),
        ("output_dist", Kind.train, "one of poisson, gaussian"),
        ("feedback_factors_or_rates", "spikes", "one of factors, rates"),
        ("precision", "16", "one of float32, float64"),
        (
            "kind",
            "test",
            "one of train, posterior_sample_and_average, posterior_push_mean, prior_sample, "
            "write_model_params",
        ),
    ],
)
def test_wrong_type_is_refused_with_what_is_expected(name, value, expected):
    dotted = params.dotted_names()[name]
    with pytest.raises(LFADSError, match=says("here", f"{dotted} is {value!r}", expected)):
        params.check_value(name, value, "here")


def bounded():
    """Return (name, bound, its value) of every bound of every parameter."""
    return [(f.name, kind, v) for f in EVERY for kind, v in f.metadata["bounds"].items()]


def test_every_number_has_a_lower_bound():
    numbers = {f.name for f in EVERY if re.search(r"\b(int|float)\b", str(f.type))}
    assert numbers == {name for name, kind, _ in bounded() if kind in {"ge", "gt"}}


@pytest.mark.parametrize(("name", "kind", "bound"), bounded())
def test_bound_is_kept(name, kind, bound):
    step = 1 if isinstance(params.flat_value(Config(), name), int | None) else 1e-3
    outside = {"ge": bound - step, "gt": bound, "le": bound + step}[kind]
    inside = {"ge": bound, "gt": bound + step, "le": bound}[kind]
    assert params.check_value(name, inside, "here") == inside
    with pytest.raises(LFADSError, match=says("here", name, f"is {outside!r}", str(bound))):
        params.check_value(name, outside, "here")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", ".inf"])
@pytest.mark.parametrize("name", ["learning_rate_init", "l2_gen_scale", "keep_prob"])
def test_number_that_is_not_finite_is_refused(name, value):
    with pytest.raises(LFADSError, match=says(name, "a number")):
        params.check_value(name, value, "here")


# --- params files ---


def test_yaml_file_is_read(tmp_path):
    path = put(tmp_path, "# mine\nIc_dim: 32\nco_dim: 2\ndo_causal_controller: true\n")
    assert read_params_file(path) == {
        "ic_dim": 32,
        "co_dim": 2,
        "do_causal_controller": True,
    }


def test_json_file_is_read(tmp_path):
    path = put(tmp_path, '{"Prior_ar_nvar": 0.2, "learning_rate_stop": 1e-05}')
    assert read_params_file(path) == {"prior_ar_nvar": 0.2, "learning_rate_stop": 1e-5}


def test_number_that_yaml_takes_for_a_text_is_a_number(tmp_path):
    assert yaml.safe_load("a: 1e-5") == {"a": "1e-5"}
    path = put(tmp_path, "learning_rate_stop: 1e-5\nic_post_var_min: 1e-4\n")
    values = read_params_file(path)
    assert values == {"learning_rate_stop": 1e-5, "ic_post_var_min": 1e-4}


def test_originals_hyperparameters_file_is_read(tmp_path):
    theirs = {
        name: value.name if isinstance(value, Enum) else value
        for name, value in ORIGINAL_DEFAULTS.items()
    }
    theirs |= {"data_dir": "/data", "lfads_save_dir": "/runs/1", "do_train_readin": "true"}
    # it writes booleans as texts, and what it derived from the data
    theirs = {k: str(v).lower() if isinstance(v, bool) else v for k, v in theirs.items()}
    theirs |= {
        "dataset_names": ["day1", "day2"],
        "dataset_dims": {"day1": 30, "day2": 31},
        "num_steps": 100,
        "ndatasets": 2,
        "allow_gpu_growth": "false",
    }
    path = tmp_path / "hyperparameters-0.txt"
    path.write_text(json.dumps(theirs))
    config = params.from_flat(read_params_file(path))
    expected = Config()
    expected.data.data_dir, expected.output.lfads_save_dir = "/data", "/runs/1"
    assert config == expected


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n"])
def test_empty_file_sets_nothing(tmp_path, text):
    assert read_params_file(put(tmp_path, text)) == {}


def test_one_name_in_two_spellings_is_refused(tmp_path):
    path = put(tmp_path, "ic_dim: 32\nIc_dim: 64\n")
    with pytest.raises(LFADSError, match=says(str(path), "ic_dim is given twice", "'Ic_dim'")):
        read_params_file(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("- co_dim\n- 2\n", "a list"),
        ("[1, 2]", "a list"),
        ("co_dim", "a str"),
        ("3", "a int"),
    ],
)
def test_file_that_is_no_mapping_is_refused(tmp_path, text, found):
    path = put(tmp_path, text)
    with pytest.raises(LFADSError, match=says(str(path), f"holds {found}", "name: value")):
        read_params_file(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x89HDF\r\n\x1a\n\x00\x00",
        b"\x00\x01\x02",
        b"co_dim: *missing",
        b"co_dim: 2\n---\nco_dim: 3",
        b'{"co_dim": 2',
        b"[" * 5000,
    ],
    ids=["hdf5", "zeros", "alias", "two documents", "cut off", "deep"],
)
def test_garbage_is_refused(tmp_path, content):
    path = put(tmp_path, content)
    with pytest.raises(LFADSError, match=says(str(path), "is neither YAML nor JSON")) as caught:
        read_params_file(path)
    assert "\n" not in str(caught.value)


def test_file_runs_no_code(tmp_path):
    path = put(tmp_path, f"co_dim: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(LFADSError, match="is neither YAML nor JSON"):
        read_params_file(path)
    assert not (tmp_path / "made").exists()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(LFADSError, match=says("params_file=", "none.yaml", "No such file")):
        read_params_file(tmp_path / "none.yaml")


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(LFADSError, match=says("params_file=", str(tmp_path), "cannot be read")):
        read_params_file(tmp_path)


def test_unknown_name_in_a_file_is_refused_with_its_path(tmp_path):
    path = put(tmp_path, "codim: 2")
    with pytest.raises(LFADSError, match=says(str(path), "'codim'", "co_dim")):
        read_params_file(path)


def test_wrong_value_in_a_file_is_refused_with_its_path(tmp_path):
    path = put(tmp_path, "keep_prob: 1.5")
    with pytest.raises(LFADSError, match=says(str(path), "model.keep_prob is 1.5", "<= 1")):
        read_params_file(path)


# --- configs ---


def other_value(f):
    """Return a legal value of a parameter that is not its default."""
    default = f.default
    if f.name == "held_out_neurons":
        return [0, 2]
    if f.name == "logger":
        return ["tensorboard", "csv"]
    if f.name == "candidates":
        return ["one_input", "no_inputs"]
    if f.name == "candidate_learning_rates":
        return [0.1, 0.02]
    if isinstance(default, bool):
        return not default
    if isinstance(default, Enum):
        return [member for member in type(default) if member is not default][-1]
    if default is None:
        return 7 if "int" in str(f.type) or "float" in str(f.type) else "some text"
    if isinstance(default, str):
        return "some text"
    if default == MAX_INT:
        return default - 1
    return (default / 2 or 0.5) if f.type is float else default + 1


def all_changed():
    return params.from_flat({f.name: other_value(f) for f in EVERY})


def test_flat_names_reach_their_fields():
    config = params.from_flat({"Ic_dim": 5, "loss.kl_ic_weight": 2, "seed": 3, "kind": "train"})
    assert config.model.ic_dim == 5
    assert config.loss.kl_ic_weight == 2.0
    assert config.seed == 3


def test_from_flat_keeps_the_base_and_leaves_it_alone():
    base = params.from_flat({"co_dim": 3, "gen_dim": 17})
    config = params.from_flat({"co_dim": 4}, base=base)
    assert (config.model.co_dim, config.model.gen_dim) == (4, 17)
    assert base.model.co_dim == 3


@pytest.mark.parametrize("make", [Config, all_changed], ids=["defaults", "all changed"])
def test_dict_round_trip_gives_the_same_config(make):
    config = make()
    assert params.from_dict(params.to_dict(config)) == config


def test_all_changed_differs_from_the_defaults_everywhere():
    # else the round trip above would say less than it seems to
    changed, default = all_changed(), Config()
    same = [f.name for f in EVERY if params.flat_value(changed, f.name) == f.default]
    assert same == []
    assert params.flat_value(default, "co_dim") == 1


def test_dict_round_trip_survives_yaml_and_json():
    nested = params.to_dict(all_changed())
    assert yaml.safe_load(yaml.safe_dump(nested)) == nested
    assert json.loads(json.dumps(nested)) == nested


def test_dict_is_loaded_by_torch_without_running_code(tmp_path):
    nested = params.to_dict(all_changed())
    torch.save(nested, tmp_path / "config.pt")
    assert torch.load(tmp_path / "config.pt", weights_only=True) == nested


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ({"modell": {"co_dim": 2}}, "modell.co_dim; did you mean model.co_dim?"),
        ({"model": {"batch_size": 2}}, "model.batch_size; did you mean data.batch_size?"),
        ({"model": 3}, "'model'"),
        ({"co_dim": {"a": 1}}, "co_dim.a"),
        ({"model": {"co_dim": -1}}, "model.co_dim is -1"),
    ],
)
def test_misplaced_or_wrong_entry_of_a_dict_is_refused(nested, message):
    with pytest.raises(LFADSError, match=says("here", message)):
        params.from_dict(nested, "here")


# --- contradictions and warnings ---


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (
            {"ic_prior_var_min": 0.2},
            ("ic_prior_var_min=0.2", "ic_prior_var_scale=0.1", "ic_prior_var_max=0.1"),
        ),
        ({"ic_prior_var_scale": 0.2}, ("ic_prior_var_scale=0.2", "must not decrease")),
        ({"ic_prior_var_max": 0.05}, ("ic_prior_var_max=0.05", "must not decrease")),
        (
            {"do_train_io_only": True, "do_train_encoder_only": True},
            ("do_train_io_only", "do_train_encoder_only", "choose one"),
        ),
        ({"do_train_encoder_only": True, "ic_dim": 0}, ("do_train_encoder_only", "ic_dim=0")),
        (
            {"temporal_spike_jitter_width": 2, "output_dist": "gaussian"},
            ("temporal_spike_jitter_width=2", "gaussian"),
        ),
        ({"inject_ext_input_to_gen": True}, ("inject_ext_input_to_gen", "ext_input_dim=0")),
        (
            {"precision": "bf16", "recurrence": "reference"},
            ("precision=bf16", "recurrence=reference", "or trainer.recurrence=native"),
        ),
        (
            {"precision": "bf16", "feedback_factors_or_rates": "rates"},
            ("precision=bf16", "feedback_factors_or_rates=rates", "precision=float32"),
        ),
        ({"checkpoint_name": "a/b"}, ("output.checkpoint_name='a/b'", "not a path")),
        ({"checkpoint_name": ""}, ("output.checkpoint_name is empty",)),
        ({"checkpoint_pb_load_name": "../x"}, ("output.checkpoint_pb_load_name", "not a path")),
        ({"csv_log": "a\\b"}, ("output.csv_log", "not a path")),
        ({"output_filename_stem": "/a"}, ("output.output_filename_stem='/a'", "not a path")),
    ],
)
def test_contradiction_is_refused(given, parts):
    with pytest.raises(LFADSError, match=says(*parts)):
        params.check(params.from_flat(given))


def test_missing_ray_is_told_before_a_folder_is_made(monkeypatch):
    monkeypatch.setattr(params, "_is_installed", lambda package: False)
    config = params.from_flat({"algorithm": "pbt", "engine": "ray"})
    with pytest.raises(LFADSError, match=says("search.engine=ray", "lfads-lightning[ray]")):
        params.check(config)


def test_all_contradictions_are_told_at_once():
    given = {"ic_prior_var_min": 0.2, "inject_ext_input_to_gen": True, "checkpoint_name": ""}
    with pytest.raises(LFADSError) as caught:
        params.check(params.from_flat(given))
    for part in ("ic_prior_var_min", "inject_ext_input_to_gen", "checkpoint_name"):
        assert part in str(caught.value)


def test_field_assigned_out_of_bounds_is_refused():
    config = Config()
    config.model.keep_prob = 1.5
    with pytest.raises(LFADSError, match=says("model.keep_prob is 1.5")):
        params.check(config)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"co_prior_var_scale": 0.2}, ("co_prior_var_scale", "no effect")),
        ({"co_mean_corr_scale": 1.0, "co_dim": 1}, ("co_mean_corr_scale=1.0", "co_dim=1")),
        (
            {"do_causal_controller": True},
            ("do_causal_controller", "do_feed_factors_to_controller=false"),
        ),
    ],
)
def test_setting_that_is_seldom_meant_is_warned_of(given, parts):
    (message,) = params.check(params.from_flat(given))
    assert re.search(says(*parts), message)


@pytest.mark.parametrize(
    "given",
    [
        {"co_mean_corr_scale": 1.0, "co_dim": 2},
        {"do_causal_controller": True, "do_feed_factors_to_controller": False},
        {"do_causal_controller": True, "co_dim": 0},
        {"ic_prior_var_min": 0.05, "ic_prior_var_max": 0.3},
        {"inject_ext_input_to_gen": True, "ext_input_dim": 2},
        {"do_train_encoder_only": True},
        {"temporal_spike_jitter_width": 2},
        {"precision": "bf16", "feedback_factors_or_rates": "rates", "co_dim": 0},
        {"csv_log": ""},
    ],
)
def test_sensible_setting_is_not_warned_of(given):
    assert params.check(params.from_flat(given)) == []


def test_text_is_no_reference_to_another_parameter(tmp_path):
    """What a file says is text, and ``${oc.env:HOME}`` would read the environment."""
    for text in ("${seed}", "a\\${oc.env:HOME}", "$HOME", "${"):
        assert params.from_flat({"data_filename_stem": text}).data.data_filename_stem == text
        folder = params.from_flat({"lfads_save_dir": tmp_path / text}).output.lfads_save_dir
        assert folder == str(tmp_path / text)
