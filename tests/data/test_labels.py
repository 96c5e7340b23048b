"""Labels of a session: bin width, ids, conditions, behaviour, and each mistake by its message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recordings import write_mat73
from test_sessions import E_TRAIN, E_VALID, POISSON, D, T, arrays, changed, put, refused

import lfads_lightning as lfads
from lfads_lightning.data.kinds import has_condition
from lfads_lightning.data.session_files import read_session, write_session
from lfads_lightning.data.sessions import check_session, sessions_from_arrays

K = 2
LABELS: dict[str, Any] = {
    "train_inds": [0, 2, 3, 4, 6, 7],
    "valid_inds": [1, 5, 8],
    "train_condition": ["left", "right", "left", "", "up", "left"],
    "valid_condition": ["left", "", "right"],
    "train_behaviour": np.random.default_rng(0).normal(size=(E_TRAIN, T, K)),
    "valid_behaviour": np.random.default_rng(1).normal(size=(E_VALID, T, K)),
    "neuron_ids": ["1a", "1b", "7", "µ"],
    "held_out_neurons": [0, 3],
    "bin_width_s": 0.01,
    "train_event_times_s": [10.5, 1.25, 3.0, 4.0, 5.0, 6.5],
    "valid_event_times_s": [2.0, 7.0, 8.0],
    "window_s": [-0.02, 0.03],
    "event": "go_cue",
}


def labelled(**changes: Any) -> dict[str, Any]:
    """Make a full data dictionary with labels; a change to None takes a key out."""
    return arrays(**(LABELS | changes))


def test_labels_pass_the_checks_of_a_run() -> None:
    """Arrays in memory take the same way as files; behaviour becomes float32."""
    by_key = {key: {"a": value} for key, value in labelled().items()}
    (session,) = sessions_from_arrays(by_key.pop("train_data"), by_key.pop("valid_data"), **POISSON,
                                      **by_key)  # fmt: skip
    assert session.bin_width_s == 0.01
    assert session.event == "go_cue"
    assert session.train.behaviour is not None
    assert session.train.behaviour.dtype == np.float32
    assert session.valid is not None
    assert session.train.condition is not None
    assert session.train.condition.tolist() == LABELS["train_condition"]
    assert session.valid.inds is not None
    assert session.valid.inds.tolist() == LABELS["valid_inds"]


@pytest.mark.parametrize(
    ("given", "held", "kind"),
    [
        ([3.0, np.nan, 1.0, 1.0, 0.0, -2.0], [3, -1, 1, 1, 0, -2], "i"),
        (np.array([[1], [2], [1], [2], [0], [0]], np.uint8), [1, 2, 1, 2, 0, 0], "i"),
        (["a", "", "b", "a", "c", "c"], ["a", "", "b", "a", "c", "c"], "U"),
        (np.array(["a", None, "b", "a", "c", "c"], object), ["a", "", "b", "a", "c", "c"], "U"),
    ],
)
def test_condition_labels_are_numbers_or_texts(given: Any, held: list[Any], kind: str) -> None:
    """NaN, None, negative and empty all mean that a trial belongs to no condition."""
    (session,) = sessions_from_arrays(
        {"a": labelled()["train_data"]}, train_condition={"a": given}, warn=False, **POISSON
    )
    condition = session.train.condition
    assert condition is not None
    assert condition.dtype.kind == kind
    assert condition.tolist() == held
    np.testing.assert_array_equal(
        has_condition(condition), [label != "" and label not in (-1, -2) for label in held]
    )


def test_matlab_labels(tmp_path: Path) -> None:
    """A v7.3 file holds columns, and a single variable of behaviour without its last axis."""
    content = labelled(train_condition=np.arange(E_TRAIN), neuron_ids=None, valid_data=None)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            if key in ("train_data", "train_condition", "train_inds"):
                file[key] = np.atleast_2d(value) if np.ndim(value) == 1 else np.asarray(value).T
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
        file["train_behaviour"] = LABELS["train_behaviour"][:, :, 0].T
        file["train_behaviour"].attrs["MATLAB_class"] = np.bytes_("double")
    split = read_session(path).train
    assert split.inds is not None
    assert split.inds.tolist() == LABELS["train_inds"]
    np.testing.assert_array_equal(split.condition, np.arange(E_TRAIN))
    np.testing.assert_array_equal(split.behaviour, LABELS["train_behaviour"][:, :, :1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_behaviour": changed(LABELS["train_behaviour"], (3, 2, 1), np.nan)},
            ["train_behaviour[3, 2, 1] is nan; behaviour must be finite", "leave the trial out"],
        ),
        ({"train_behaviour": np.ones((E_TRAIN, T))}, ["train_behaviour is 6×5", "6 trials of 5"]),
        (
            {"valid_behaviour": np.ones((E_VALID, T, 5))},
            ["train_behaviour has 2 variables, valid_behaviour has 5"],
        ),
        ({"train_condition": [1, 2]}, ["train_condition is 2; expected 6 labels, one per trial"]),
        ({"valid_inds": [1, 2]}, ["valid_inds is 2; expected 3 labels, one per trial"]),
        ({"train_condition": [0.5] * 6}, ["train_condition[0] is 0.5", "number the labels"]),
        ({"train_inds": [-1] * 6}, ["train_inds[0] is -1; expected whole numbers, counted from 0"]),
        ({"neuron_ids": [1, 2]}, ["neuron_ids is 2; expected 4 labels, one per neuron"]),
        ({"held_out_neurons": [4]}, ["held_out_neurons names channel 4 of 4", "0 to 3"]),
        ({"held_out_neurons": [1, 1]}, ["held_out_neurons names a channel twice"]),
        ({"held_out_neurons": range(D)}, ["names all 4 neurons"]),
        ({"held_out_neurons": np.ones(D, bool)}, ["held_out_neurons is a mask"]),
        ({"window_s": np.ones((2, 2))}, ["window_s is not a list of finite numbers; expected sec"]),
        ({"window_s": [0.1]}, ["window_s is [0.1]; expected two times, the start and the end"]),
        ({"window_s": [0.1, 0.0]}, ["window_s is [0.1, 0.0]; expected two times"]),
        ({"event": [1, 2]}, ["event is an array of 2; expected one text, such as go_cue_time"]),
        ({"event": 3.0}, ["event is 3.0; expected one text"]),
        ({"train_event_times_s": [1.0, 2.0]}, ["train_event_times_s is 2; expected 6 labels"]),
        ({"bin_width_s": 0.0}, ["bin_width_s is 0.0; expected one positive number, in seconds"]),
        ({"bin_width_s": np.ones(2)}, ["bin_width_s is an array of 2; expected one positive"]),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, Any], message: list[str]) -> None:
    """Each is refused on reading and on writing."""
    content = labelled(**changes)
    with refused(f"{tmp_path}/a.h5: ", *message):
        write_session(tmp_path / "a.h5", **content)
    assert not list(tmp_path.iterdir())
    with refused(f"{tmp_path}/b.h5: ", *message):
        read_session(put(tmp_path / "b.h5", **content))


def test_cell_arrays_are_named(tmp_path: Path) -> None:
    """What MATLAB stores as references has no labels in it."""
    path = put(tmp_path / "a.h5", train_data=arrays()["train_data"])
    with h5py.File(path, "a") as file:
        file.create_dataset("train_condition", (E_TRAIN,), dtype=h5py.ref_dtype)
    with refused("train_condition holds text or objects; expected"):
        read_session(path)


def test_bin_width_in_milliseconds_is_suspected() -> None:
    """20 s bins are 20 ms bins."""
    with pytest.warns(UserWarning, match="bin_width_s is 20 seconds; if this is in milliseconds"):
        sessions_from_arrays(
            {"a": arrays()["train_data"]},
            {"a": arrays()["valid_data"]},
            bin_width_s={"a": 20},
            **POISSON,
        )


def test_sessions_of_one_model_have_one_bin_width() -> None:
    """What is not stated is not compared."""
    data = {name: arrays()["train_data"] for name in "abc"}
    sessions_from_arrays(data, bin_width_s={"a": 0.01, "c": 0.01}, warn=False, **POISSON)
    with refused("session 'c': bin_width_s is 0.02, that of session 'a' is 0.01; all sessions"):
        sessions_from_arrays(data, bin_width_s={"a": 0.01, "c": 0.02}, warn=False, **POISSON)


def test_fit_splits_labels_with_the_trials(monkeypatch: Any, counts: np.ndarray) -> None:
    """The held-out fifth takes its labels along, and says which trials it is."""
    seen: list[Any] = []
    monkeypatch.setattr("lfads_lightning.api.train_sessions", lambda c, s, f: seen.extend(s))
    behaviour = np.arange(12.0)[:, None, None] * np.ones((1, 8, K))
    lfads.fit(counts, condition=np.arange(12), behaviour=behaviour, bin_width_s=0.02,
              neuron_ids=list("abcde"), lfads_save_dir="unused")  # fmt: skip
    (session,) = seen
    assert session.bin_width_s == 0.02
    assert session.neuron_ids.tolist() == list("abcde")
    assert len(session.valid.inds) == 2
    whole = np.sort(np.concatenate([session.train.inds, session.valid.inds]))
    np.testing.assert_array_equal(whole, np.arange(12))
    for split in session.splits.values():
        np.testing.assert_array_equal(split.condition, split.inds)
        np.testing.assert_array_equal(split.behaviour[:, 0, 0], split.inds)
        np.testing.assert_array_equal(split.data, counts[split.inds])


def test_check_session_keeps_labels(tmp_path: Path) -> None:
    """A session read from a file still has them when it is trained on."""
    session = check_session(read_session(put(tmp_path / "a.h5", **labelled())), **POISSON)
    assert session.neuron_ids is not None
    assert session.neuron_ids.tolist() == LABELS["neuron_ids"]
    assert session.held_out_neurons is not None
    assert session.held_out_neurons.tolist() == [0, 3]


def test_event_is_text_in_a_matlab_file_too(tmp_path: Path) -> None:
    """MATLAB stores text as numbers."""
    content = {"train_data": labelled()["train_data"], "event": "go_cue"}
    assert read_session(write_mat73(tmp_path / "a.mat", content)).event == "go_cue"
