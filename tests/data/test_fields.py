"""The table of a session's keys, what follows from it, and what fit takes as data."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
from conftest import TINY
from test_sessions import arrays, refused

import lfads_lightning as lfads
from lfads_lightning.data.fields import KEYS, OF_SESSION, OF_SPLIT, PER, Field, arrays_of
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.params import dotted_names
from lfads_lightning.runs import remote

PACKAGE = Path(lfads.__file__).parent
N_TRIALS, N_BINS, N_NEURONS = 12, 8, 5  # of the fixture `counts`


def shown_keys(function):
    """Return the keywords with the default None that a signature shows."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in KEYS]


def test_signatures_show_every_key():
    assert set(shown_keys(lfads.write_session)) == set(KEYS)
    # a parameter has this name as well; it takes the channels themselves
    assert set(KEYS) - set(shown_keys(lfads.fit)) == {"train_data"}
    assert set(shown_keys(lfads.fit)) & set(dotted_names()) == {"held_out_neurons"}
    for function in (lfads.write_session, lfads.fit):
        parameters = inspect.signature(function).parameters
        assert parameters["event"].annotation.startswith("str | ")
        for key in shown_keys(function):
            assert f" {key}" in function.__doc__


@pytest.mark.parametrize(("key", "field"), KEYS.items())
def test_rows_are_sound(key, field):
    assert isinstance(field, Field)
    assert field.doc
    assert not field.doc.endswith(".")
    if key in OF_SESSION:
        assert "E" not in field.axes, "a session has no number of trials"
    else:
        assert field.axes.startswith("E"), "a split is cut by trials"
    assert len(set(field.axes)) == len(field.axes)
    assert field.axes not in PER or not field.hint


# each with the row that it is put before, one of Split and one of Session
NEW_ROWS = {
    "    event_times_s: Annotated[": (
        'choice: Annotated[np.ndarray | None, Field("E", NAMES, "what it chose")] = None'
    ),
    "    event: Annotated[": (
        'depth_um: Annotated[np.ndarray | None, Field("D", REAL, "depth of each neuron")] = None'
    ),
}
USE = """
import inspect, sys
import numpy as np
import lfads_lightning as lfads
from lfads_lightning import api
from lfads_lightning.data import keywords

counts, choice, depth = np.ones((12, 8, 5), int), np.array(list("lrlrlrlrlrlr")), np.arange(5.0)
both = {"train_choice": choice, "depth_um": depth}
lfads.write_session("a.h5", train_data=counts, **both)
session = lfads.read_session("a.h5")
assert session.train.choice.tolist() == choice.tolist()
assert session.depth_um.tolist() == depth.tolist()
for wrong, words in (
    ({"depth_um": [1, 2]}, "depth_um is 2; expected 5 labels, one per neuron"),
    ({"train_choice": [0.5] * 12}, "train_choice[0] is 0.5; expected whole numbers or text;"),
):
    try:
        lfads.write_session("b.h5", train_data=counts, **both | wrong)
    except lfads.LFADSError as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)
new = {"train_choice", "valid_choice", "depth_um"}
for function in (lfads.fit, lfads.write_session):
    assert new <= inspect.signature(function).parameters.keys()
    assert "(E) whole numbers or text; what it" in function.__doc__
assert "`valid_choice` | E | whole numbers or text | what it chose |" in keywords.table()
api.train_sessions = lambda config, sessions, folder: sessions
for data, keys in ((counts, both), ("a.h5", {})):
    (fitted,) = lfads.fit(data, lfads_save_dir="run", **keys)
    for split in fitted.splits.values():
        assert split.choice.tolist() == choice[split.inds].tolist()
    assert fitted.depth_um.tolist() == depth.tolist()
"""


@pytest.mark.slow
def test_a_new_key_is_one_row(tmp_path):
    """In a copy of the package: a line for each of two keys, and nothing else."""
    copy = tmp_path / "lfads_lightning"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    table = copy / "data" / "fields.py"
    text = table.read_text(encoding="utf-8")
    for before, row in NEW_ROWS.items():
        assert text.count(before) == 1
        text = text.replace(before, f"    {row}\n{before}")
    table.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_session_made_by_hand_is_put_in_the_types_to_be_held():
    """Lists do, and a message names the key."""
    split = lfads.Split(np.ones((2, 3, 4)).tolist(), condition=["a", "b"])
    session = lfads.Session("x", split, window_s=(-0.1, 0.2), neuron_ids=range(4), event="go")
    assert session.train.data.shape == (2, 3, 4)
    assert session.train.condition.tolist() == ["a", "b"]
    assert session.window_s.tolist() == [-0.1, 0.2]
    with refused("session 'x': window_s is [0.2, -0.1]; expected two times"):
        lfads.Session("x", split, window_s=(0.2, -0.1))
    with refused("session 'x': train_condition is 3; expected 2 labels, one per trial"):
        lfads.Session("x", split._replace(condition=[1, 2, 3]))


# --- what fit takes -------------------------------------------------------------------------------


@pytest.fixture
def fitted(monkeypatch):
    """Return what a call of fit would train on."""
    monkeypatch.setattr(
        "lfads_lightning.api.train_sessions", lambda config, sessions, folder: sessions
    )

    def fit(data, **given):
        return lfads.fit(data, lfads_save_dir="unused", **given)

    return fit


def assert_same(found, expected):
    held, wanted = arrays_of(found), arrays_of(expected)
    assert held.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(held[key], value)


LABELS = {
    "train_condition": np.arange(N_TRIALS) % 3,
    "train_event_times_s": np.arange(N_TRIALS) + 0.5,
    "event": "go_cue",
    "window_s": [-0.03, 0.05],
    "bin_width_s": 0.01,
    "neuron_ids": list("abcde"),
}


def test_all_forms_of_data_give_the_same_session(fitted, counts, tmp_path, monkeypatch):
    """Labels are split with their trials, whoever holds them."""
    path = lfads.write_session(tmp_path / "a.h5", train_data=counts, **LABELS)
    monkeypatch.setattr(remote, "NO_STORES", set())
    address = "memory://lab/a.h5"  # in place of S3
    fsspec.filesystem("memory").pipe_file("/lab/a.h5", path.read_bytes())
    (expected,) = fitted(counts, **LABELS)
    assert expected.name == "session"
    assert (expected.event, expected.window_s.tolist()) == ("go_cue", [-0.03, 0.05])
    for split in expected.splits.values():
        np.testing.assert_array_equal(split.event_times_s, split.inds + 0.5)
        np.testing.assert_array_equal(split.condition, split.inds % 3)
    session = lfads.read_session(path)
    forms = (
        list(counts),
        session,
        path,
        str(path),
        address,
        {"a": path},
        {"a": session},
        {"a": counts},
    )
    for data in forms:
        alone = data if not isinstance(data, dict) else data["a"]
        keys = LABELS if isinstance(alone, list | np.ndarray) else {}
        (found,) = fitted(data, **keys)
        assert found.name == ("session" if isinstance(data, list) else "a")
        assert_same(found, expected)
    (found,) = fitted(session.train, event="go_cue", window_s=[-0.03, 0.05], bin_width_s=0.01,
                      neuron_ids=list("abcde"))  # fmt: skip
    assert_same(found, expected)
    short = {key.removeprefix("train_"): value for key, value in LABELS.items()}
    assert_same(fitted(counts, **short)[0], expected)


def test_several_sessions(fitted, counts, tmp_path):
    """A file of two, or a mapping of unlike forms; a key of one value is shared."""
    with h5py.File(tmp_path / "two.h5", "w") as file:
        for name in "ab":
            file[f"{name}/train_data"] = counts
            file[f"{name}/valid_data"] = counts[:3]
    for data in (
        tmp_path / "two.h5",
        {"a": lfads.Session("x", lfads.Split(counts), lfads.Split(counts[:3])), "b": counts},
    ):
        keys = {"valid_data": {"b": counts[:3]}} if isinstance(data, dict) else {}
        first, second = fitted(data, event="go", train_condition={"a": range(12)}, **keys)
        assert (first.name, second.name) == ("a", "b")
        assert first.event == second.event == "go"
        assert first.train.condition.tolist() == list(range(12))
        assert second.train.condition is None
        assert len(first.valid.data) == len(second.valid.data) == 3
    with pytest.warns(UserWarning, match="valid_data is missing"):
        (whole,) = fitted(counts, valid_fraction=0)
    assert whole.valid is None


SESSION = lfads.Session(
    "day1", lfads.Split(np.ones((6, 4, 3), int)), lfads.Split(np.ones((2, 4, 3), int)), event="go"
)


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        (
            SESSION,
            {"event": "cue"},
            ["session 'day1': event is given, but the session already has it"],
        ),
        (SESSION, {"valid_data": np.ones((2, 4, 3))}, ["valid_data is given, but the session"]),
        (SESSION, {"valid_fraction": 0.5}, ["valid_fraction=0.5, and validation trials are given"]),
        (
            SESSION.train,
            {"valid_data": SESSION.valid.data, "valid_fraction": 0.2},
            ["valid_fraction=0.2, and validation trials are given; give one of the two"],
        ),
        (
            SESSION.train,
            {"valid_condition": [0, 1]},
            ["valid_condition is given without valid_data; give both, or train_condition of all"],
        ),
        (
            SESSION.train,
            {"condition": [0] * 6, "train_condition": [0] * 6},
            ["train_condition and condition are the same key; give one of them"],
        ),
        (
            SESSION.train,
            {"windw_s": [0, 1]},
            ["no keyword is named windw_s; did you mean window_s"],
        ),
        (SESSION.train, {"co_dims": 1}, ["co_dims", "did you mean co_dim?"]),
        ([SESSION, SESSION], {}, ["data is a list of sessions; expected them by name"]),
        ({"a": {"b": 1}}, {}, ["session 'a' is a mapping; expected an array, a session or a file"]),
        ({}, {}, ["train_data: expected {session name: array} with at least one session"]),
        (
            {"a": SESSION.train, "b": SESSION},
            {"neuron_ids": [1, 2, 3]},
            ["neuron_ids is one array for 2 sessions; expected {session name: array}, of a, b"],
        ),
        (
            {"day1": SESSION.train},
            {"neuron_ids": {"dai1": [1, 2, 3]}},
            ["neuron_ids: session 'dai1' has no train_data; did you mean day1?"],
        ),
        ("no_such_file.h5", {}, ["no_such_file.h5: no such file; expected the HDF5 file"]),
        ([np.ones((3, 2)), np.ones((4, 3))], {}, ["its trials differ in length"]),
    ],
)
def test_contradictions_are_refused(fitted, data, given, message):
    with refused(*message):
        fitted(data, **given)


# --- what a trained model takes -------------------------------------------------------------------


@pytest.fixture
def trained(new_model, new_config):
    parameters = {"ext_input_dim": 2}
    return TrainedModel(new_model({"a": 4}, **parameters), new_config(**parameters), 5, 0)


@pytest.mark.parametrize("method", ["posterior_push_mean", "posterior_sample_and_average"])
def test_a_model_takes_what_fit_takes(trained, tmp_path, method):
    """Of a session all trials, those of training first; its external inputs come with it."""
    infer = getattr(trained, method)
    content = arrays()
    path = lfads.write_session(tmp_path / "day.h5", **content)
    session = lfads.read_session(path)
    names = ("data", "ext_input")
    data, ext = (np.concatenate([content[f"{s}_{n}"] for s in ("train", "valid")]) for n in names)
    expected = infer(data, ext_input=ext).rates
    assert len(expected) == len(session.train.data) + len(session.valid.data)
    for given in (session, path, str(path)):
        np.testing.assert_array_equal(infer(given).rates, expected)
    np.testing.assert_array_equal(infer(list(data), ext_input=ext).rates, expected)
    for given in ({"x": session}, {"x": path}):
        np.testing.assert_array_equal(infer(given)["x"].rates, expected)
    valid = infer(content["valid_data"], ext_input=content["valid_ext_input"]).rates
    np.testing.assert_array_equal(infer(session.valid).rates, valid)
    np.testing.assert_array_equal(
        infer(session.valid._replace(ext_input=None), ext_input=content["valid_ext_input"]).rates,
        valid,
    )
    with refused("train_ext_input is given, but the session already has it"):
        infer(session, ext_input=ext)


def test_a_model_of_several_sessions_takes_a_session_by_its_name(new_model, new_config):
    trained = TrainedModel(new_model({"a": 3, "b": 3}), new_config(), 4, 0)
    counts = np.ones((2, 4, 3), int)
    named = trained.posterior_push_mean(lfads.Session("b", lfads.Split(counts)))
    np.testing.assert_array_equal(
        named.rates, trained.posterior_push_mean({"b": counts})["b"].rates
    )
    with refused("data is one array, but the model has sessions"):
        trained.posterior_push_mean(counts)
    with refused("session 'c': the model has no session 'c'"):
        trained.posterior_push_mean(lfads.Session("c", lfads.Split(counts)))


# --- figures --------------------------------------------------------------------------------------


def test_events_of_arrays_reach_the_figures_as_those_of_a_file(counts, tmp_path, monkeypatch):
    """Sessions are drawn alike; that an event is marked is for tests/report."""
    path = lfads.write_session(tmp_path / "a.h5", train_data=counts, **LABELS)
    drawn = []
    monkeypatch.setattr(
        "lfads_lightning.report.finish._report",
        lambda trained, scores, scored, sessions, *others: drawn.append(sessions[0]),
    )
    asked = TINY | {"max_epochs": 1, "report": True, "batch_size": 4}
    for name, data, keys in (("file", path, {}), ("arrays", {"a": counts}, LABELS)):
        lfads.fit(data, lfads_save_dir=tmp_path / name, **keys, **asked)
    from_file, from_arrays = drawn
    assert from_arrays.event == from_file.event == LABELS["event"]
    np.testing.assert_array_equal(from_arrays.window_s, LABELS["window_s"])
    np.testing.assert_array_equal(from_file.window_s, LABELS["window_s"])


def test_every_split_field_has_a_short_name_that_is_no_parameter():
    """`condition` is read as `train_condition`; a parameter of this name would be hidden."""
    assert set(OF_SPLIT) & set(dotted_names()) == set()
