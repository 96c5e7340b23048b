"""Sessions of arrays: types, warnings, and each error of an array or of a set by its message."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfads_lightning.config import LFADSError
from lfads_lightning.data.session_files import load_sessions, read_session, write_session
from lfads_lightning.data.sessions import Session, Split, check_session, sessions_from_arrays

E_TRAIN, E_VALID, T, D, N_INPUTS, F = 6, 3, 5, 4, 2, 3
POISSON = {"output_dist": "poisson", "ext_input_dim": 0, "factors_dim": F}
GAUSSIAN = {**POISSON, "output_dist": "gaussian"}
WITH_INPUTS = {**POISSON, "ext_input_dim": N_INPUTS}
COUNTS = np.random.default_rng(0).integers(1, 9, (E_TRAIN, T, D))


def arrays(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Make a full data dictionary; a change to None takes a key out."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for split, n_trials in (("train", E_TRAIN), ("valid", E_VALID)):
        made[f"{split}_data"] = rng.integers(1, 9, (n_trials, T, D))
        made[f"{split}_ext_input"] = rng.normal(size=(n_trials, T, N_INPUTS))
        made[f"{split}_truth"] = rng.random((n_trials, T, D))
    made["alignment_matrix_cxf"] = rng.normal(size=(D, F))
    made["alignment_bias_c"] = rng.normal(size=D)
    made["conversion_factor"] = 100.0
    return {key: value for key, value in (made | changes).items() if value is not None}


def put(path: Path, group: str = "", **content: Any) -> Path:
    """Write keys with plain h5py, unchecked."""
    with h5py.File(path, "a") as file:
        place = file.require_group(group) if group else file
        for key, value in content.items():
            place[key] = value
    return path


def changed(array: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    """Copy an array as float64 with one value replaced."""
    copy = np.array(array, dtype=np.float64)
    copy[index] = value
    return copy


def refused(*parts: str) -> Any:
    """Expect an LFADSError of one line that holds the parts in this order."""
    return pytest.raises(
        LFADSError, match=r"\A[^\n]*" + "[^\n]*".join(map(re.escape, parts)) + r"[^\n]*\Z"
    )


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(1, "u1"), (255, "u1"), (256, "u2"), (65535, "u2"), (65536, "u4"), (2**32 - 1, "u4")],
)
@pytest.mark.parametrize("stored", ["f8", ">i8", "u8"])
def test_counts_take_the_smallest_type(highest: int, dtype: str, stored: str) -> None:
    """The larger split decides for both; nothing warns about floats that are whole."""
    train = np.ones((2, T, D), stored)
    valid = changed(train, (1, 2, 3), highest).astype(stored)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (session,) = sessions_from_arrays({"a": train}, {"a": valid}, **POISSON)
    assert session.valid is not None
    assert session.train.data.dtype == session.valid.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(session.valid.data, valid)
    assert session.train.data.flags.c_contiguous


def test_boolean_spikes_are_counts() -> None:
    """0/1 rasters need no conversion by the user."""
    raster = np.ones((2, T, D), bool)
    (session,) = sessions_from_arrays({"a": raster}, {"a": raster}, **POISSON)
    assert session.train.data.dtype == np.uint8


def test_arrays_of_the_right_type_are_not_copied() -> None:
    """Memory holds one copy."""
    counts = np.full((2, T, D), 3, np.uint8)
    (session,) = sessions_from_arrays({"a": counts}, {"a": counts}, **POISSON)
    assert np.shares_memory(session.train.data, counts)


def test_optional_arrays_may_be_for_no_session() -> None:
    """An empty mapping says the same as None."""
    with pytest.warns(UserWarning, match="valid_data is missing"):
        (session,) = sessions_from_arrays({"a": COUNTS}, {}, train_truth={}, **POISSON)
    assert session.valid is None
    assert session.train.truth is None


def test_gaussian_data_are_float32() -> None:
    """Negative and fractional values and integers all pass, with truth beside them."""
    content = arrays(train_data=np.arange(E_TRAIN * T * D).reshape(E_TRAIN, T, D) - 0.5)
    (session,) = sessions_from_arrays(
        **{key.removesuffix("_data"): {"a": value} for key, value in content.items()}, **GAUSSIAN
    )
    assert session.valid is not None
    kinds = {a.dtype for split in session.splits.values() for a in (split.data, split.truth)}
    assert kinds == {np.dtype(np.float32)}
    np.testing.assert_array_equal(session.valid.data, content["valid_data"])
    assert session.train.ext_input is None, "ext_input_dim=0 drops them"


def test_ext_input_is_float32(tmp_path: Path) -> None:
    """External inputs are kept if the configuration asks for them."""
    content = arrays()
    session = check_session(read_session(put(tmp_path / "a.h5", **content)), **WITH_INPUTS)
    assert session.train.ext_input is not None
    assert session.train.ext_input.dtype == np.float32
    np.testing.assert_allclose(session.train.ext_input, content["train_ext_input"], rtol=1e-6)


@pytest.mark.parametrize(("stored", "held"), [("f4", "f4"), ("f8", "f8"), ("i4", "f8")])
def test_alignment_keeps_its_precision(stored: str, held: str) -> None:
    """Single stays single, all else becomes double."""
    ones = np.ones((2, T, D), np.uint8)
    (session,) = sessions_from_arrays(
        {"a": ones}, {"a": ones}, alignment_matrix_cxf={"a": np.ones((D, F), stored)}, **POISSON
    )
    assert session.alignment_matrix_cxf is not None
    assert session.alignment_matrix_cxf.dtype == np.dtype(held)


@pytest.mark.parametrize("shape", [(D,), (1, D), (D, 1)])
def test_bias_may_be_a_row_or_a_column(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """It is flattened, and needs no matrix."""
    content = arrays(alignment_bias_c=np.arange(D).reshape(shape), alignment_matrix_cxf=None)
    session = check_session(read_session(put(tmp_path / "a.h5", **content)), **POISSON)
    np.testing.assert_array_equal(session.alignment_bias_c, np.arange(D))


def test_conversion_factor_defaults_to_one(tmp_path: Path) -> None:
    """Truth without a factor is in counts per bin."""
    for factor, expected in ((None, 1), (np.array([[50]]), 50)):
        path = put(tmp_path / f"{expected}.h5", **arrays(conversion_factor=factor))
        assert read_session(path).conversion_factor == expected


TO_GAUSSIAN = "set model.output_dist=gaussian"


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        (
            {"train_data": np.ones((T, D))},
            POISSON,
            ["train_data has 2 dimensions (5×4); expected 3, E×T×D", "cut a single long recording"],
        ),
        ({"valid_data": np.ones((T, D, 1, 1))}, POISSON, ["valid_data has 4 dimensions (5×4×1×1)"]),
        ({"train_data": np.ones((0, T, D))}, POISSON, ["train_data is empty (0×5×4)"]),
        ({"train_data": np.ones((2, 0, D))}, POISSON, ["train_data is empty (2×0×4)"]),
        ({"valid_data": np.ones((2, T, 0))}, POISSON, ["valid_data is empty (2×5×0)"]),
        (
            {"valid_data": np.ones((3, T, D + 1)), "valid_truth": None},
            POISSON,
            ["valid_data has 5 neurons, train_data has 4; both must be E×T×D with the same D"],
        ),
        (
            {"valid_data": np.ones((E_TRAIN, T, 9)), "valid_truth": None},
            POISSON,
            ["the same D; if the axes are D×T×E, transpose the arrays"],
        ),
        (
            {"valid_data": np.ones((3, T + 1, D)), "valid_truth": None},
            POISSON,
            ["valid_data has 6 time bins, train_data has 5; both must be E×T×D with the same T"],
        ),
        (
            {"train_data": changed(COUNTS, (1, 2, 3), -1)},
            POISSON,
            ["train_data[1, 2, 3] is -1.0; counts per bin cannot be negative", TO_GAUSSIAN],
        ),
        ({"valid_data": -np.ones((3, T, D), int)}, POISSON, ["valid_data[0, 0, 0] is -1; counts"]),
        ({"train_data": changed(COUNTS, (0, 1, 0), np.inf)}, POISSON, ["[0, 1, 0] is inf; counts"]),
        (
            {"train_data": changed(COUNTS, (1, 2, 3), 0.5)},
            POISSON,
            ["train_data[1, 2, 3] is 0.5; expected whole counts", TO_GAUSSIAN],
        ),
        (
            {"train_data": changed(COUNTS, (1, 2, 3), 2**32)},
            POISSON,
            ["train_data[1, 2, 3] is 4294967296.0; counts cannot exceed 4294967295"],
        ),
        ({"valid_data": changed(np.ones((3, T, D)), (0, 0, 1), 1e300)}, GAUSSIAN, ["is inf"]),
        ({"train_ext_input": None}, WITH_INPUTS, ["train_ext_input is missing", "6×5×2"]),
        ({"valid_ext_input": None}, WITH_INPUTS, ["valid_ext_input is missing", "3×5×2"]),
        (
            {"train_ext_input": np.ones((E_TRAIN, T, N_INPUTS + 1))},
            WITH_INPUTS,
            ["train_ext_input is 6×5×3; expected E×T×I = 6×5×2", "data.ext_input_dim"],
        ),
        (
            {"valid_ext_input": np.ones((E_TRAIN, T, N_INPUTS))},
            WITH_INPUTS,
            ["valid_ext_input is 6×5×2"],
        ),
        (
            {"train_ext_input": changed(np.ones((E_TRAIN, T, N_INPUTS)), (0, 0, 0), -np.inf)},
            WITH_INPUTS,
            ["train_ext_input[0, 0, 0] is -inf; all values must be finite"],
        ),
        (
            {"train_truth": np.ones((E_TRAIN, T))},
            POISSON,
            ["train_truth is 6×5, train_data is 6×5×4; both must have the same shape"],
        ),
        (
            {"alignment_matrix_cxf": np.ones((F, D))},
            POISSON,
            ["alignment_matrix_cxf is 3×4; expected D×F = 4×3; it seems to be F×D: transpose it"],
        ),
        (
            {"alignment_matrix_cxf": np.ones((D, F + 3))},
            POISSON,
            ["alignment_matrix_cxf is 4×6; expected D×F = 4×3", "set model.factors_dim=6"],
        ),
        (
            {"alignment_matrix_cxf": np.ones((D + 1, F))},
            POISSON,
            ["alignment_matrix_cxf is 5×3; expected D×F = 4×3; one row per neuron"],
        ),
        ({"alignment_matrix_cxf": np.ones(D)}, POISSON, ["alignment_matrix_cxf is 4; expected"]),
        ({"alignment_matrix_cxf": np.full((D, F), np.nan)}, POISSON, ["cxf[0, 0] is nan"]),
        (
            {"alignment_bias_c": np.ones(D + 1)},
            POISSON,
            ["alignment_bias_c has shape (5,), train_data has 4 neurons; expected (4,)"],
        ),
        ({"alignment_bias_c": np.ones((2, 2))}, POISSON, ["alignment_bias_c has shape (2, 2)"]),
        ({"conversion_factor": 0.0}, POISSON, ["conversion_factor is 0.0; expected one positive"]),
        ({"conversion_factor": np.nan}, POISSON, ["conversion_factor is nan; expected"]),
        ({"conversion_factor": np.inf}, POISSON, ["conversion_factor is inf; expected"]),
        ({"conversion_factor": np.ones(2)}, POISSON, ["conversion_factor is an array of 2;"]),
        (
            {},
            {**POISSON, "output_dist": "poison"},
            ["output_dist is 'poison'; expected one of poisson"],
        ),
    ],
)
def test_array_refused(
    tmp_path: Path, changes: dict[str, Any], config: dict[str, Any], message: list[str]
) -> None:
    """Each fault has its message, which begins with the file, or the session of an array."""
    content = arrays(**changes)
    put(tmp_path / "a.h5", **content)
    with refused(*([f"{tmp_path}/a.h5: "] if changes else []), *message):
        load_sessions(tmp_path, "a", **config)
    by_key = {key.removesuffix("_data"): {"mine": value} for key, value in content.items()}
    with refused(*(["session 'mine': "] if changes else []), *message):
        sessions_from_arrays(**by_key, **config)


def test_hint_at_reversed_axes_only_where_likely() -> None:
    """Splits that also differ in trials are E×T×D already."""
    with pytest.raises(LFADSError, match="the same D$"):
        Session("x", Split(np.ones((6, T, D))), Split(np.ones((3, T, D + 1))))


def test_session_made_by_hand_is_checked() -> None:
    """Shapes are checked wherever a session comes from."""
    with refused("session 'x': train_data has 2 dimensions"):
        Session("x", Split(np.ones((T, D))))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": np.ones((2, T, D))}, "train_data: expected {session name: array}"),
        ({"train": {}}, "train_data: expected {session name: array}"),
        (
            {"valid": {"dai1": 1}},
            "valid_data: session 'dai1' has no train_data; did you mean day1?",
        ),
        ({"train_truht": {}}, "train_truht: no such key; did you mean train_truth?"),
        (
            {"train": {"day1": [[1], [1, 2]]}},
            "session 'day1': train_data is not an array of numbers",
        ),
    ],
)
def test_arrays_by_wrong_names(given: dict[str, Any], message: str) -> None:
    """Sessions and keys must be known."""
    with refused(message):
        sessions_from_arrays(**{"train": {"day1": np.ones((2, T, D))}, **given}, **POISSON)


def test_sessions_may_differ_in_neurons_and_trials(tmp_path: Path) -> None:
    """They come sorted by name, each in its own type."""
    write_session(
        tmp_path / "s_b.h5",
        train_data=np.where(np.arange(9) < 5, 3, 300) * np.ones((2, T, 1), int),
        valid_data=COUNTS[..., :1].repeat(9, 2),
    )
    write_session(tmp_path / "s_a.h5", train_data=COUNTS, valid_data=COUNTS)
    first, second = load_sessions(tmp_path, "s", **POISSON)
    assert [first.name, second.name] == ["a", "b"]
    assert [first.data_dim, second.data_dim] == [D, 9]
    assert [first.train.data.dtype, second.train.data.dtype] == [np.uint8, np.uint16]


def test_sessions_must_have_one_t(tmp_path: Path) -> None:
    """The error names both files."""
    put(tmp_path / "s_a.h5", train_data=COUNTS, valid_data=COUNTS)
    put(tmp_path / "s_b.h5", train_data=COUNTS[:, :-1], valid_data=COUNTS[:, :-1])
    with refused("s_b.h5: trials have 4 bins, those of ", "s_a.h5 have 5", "the same T"):
        load_sessions(tmp_path, "s", **POISSON)


@pytest.mark.parametrize("lacking", ["a", "b"])
def test_alignment_for_all_sessions_or_none(tmp_path: Path, lacking: str) -> None:
    """The error names the session without."""
    for name in "ab":
        changes = {"alignment_matrix_cxf": None} if name == lacking else {}
        put(tmp_path / f"s_{name}.h5", **arrays(**changes))
    with refused(f"s_{lacking}.h5: alignment_matrix_cxf is missing", "has one", "or for none"):
        load_sessions(tmp_path, "s", **POISSON)


def test_session_names_are_unique_across_groups(tmp_path: Path) -> None:
    """Two files may hold groups of one name."""
    for name in "ab":
        put(tmp_path / f"s_{name}.h5", "day1", **arrays())
    with refused("s_b.h5:day1: session 'day1' is also in ", "s_a.h5:day1", "rename one"):
        load_sessions(tmp_path, "s", **POISSON)


def test_missing_validation_data_warns() -> None:
    """Training is possible without."""
    with pytest.warns(
        UserWarning, match=r"session 'a': valid_data is missing.*lowest-valid"
    ) as got:
        (session,) = sessions_from_arrays({"a": COUNTS}, **POISSON)
    assert session.valid is None
    assert list(session.splits) == ["train"]
    assert len(got) == 1


def test_silent_neurons_warn() -> None:
    """They are named by index; spikes in the validation split do not help."""
    silent = COUNTS.copy()
    silent[..., [1, 3]] = 0
    with pytest.warns(UserWarning, match=r"2 of 4 neurons have no spikes in train_data \(1, 3,"):
        sessions_from_arrays({"a": silent}, {"a": COUNTS}, **POISSON)


@pytest.mark.parametrize("output_dist", ["poisson", "gaussian"])
def test_warnings_can_be_left_out(output_dist: str) -> None:
    """Inference needs neither validation data nor spikes of every neuron; errors stay."""
    silent = COUNTS * [1, 0, 1, 0]
    config = {**POISSON, "output_dist": output_dist, "warn": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (session,) = sessions_from_arrays({"a": silent}, **config)
    assert session.valid is None
    with refused("train_data[0, 0, 0] is inf"):
        sessions_from_arrays({"a": changed(COUNTS, (0, 0, 0), np.inf)}, **config)


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "x" * 151, b"\xff", "a\0b"])
def test_session_names_that_make_no_file_names_are_refused_before_training(tmp_path, name):
    """The checkpoints of such a run could not be loaded, or its results not be written."""
    counts = np.ones((4, 5, 3))
    if name != "a\0b":  # no file has this name
        write_session(tmp_path / "good.h5", train_data=counts)
        raw = name if isinstance(name, bytes) else name.encode()
        os.rename(tmp_path / "good.h5", os.fsencode(tmp_path) + b"/m_" + raw + b".h5")
        with pytest.raises(LFADSError, match="cannot be a session named"):
            load_sessions(tmp_path, "m", output_dist="poisson", ext_input_dim=0, factors_dim=3)
    for other in (os.fsdecode(name), "a/b"):
        with pytest.raises(LFADSError, match="cannot be a session named"):
            sessions_from_arrays(
                {other: counts}, output_dist="poisson", ext_input_dim=0, factors_dim=3
            )
