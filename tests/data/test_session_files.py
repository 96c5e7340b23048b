"""Session files: round trip, groups, MATLAB, damage, links, and how files are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_labels import LABELS
from test_sessions import (
    COUNTS,
    E_TRAIN,
    E_VALID,
    POISSON,
    WITH_INPUTS,
    D,
    F,
    T,
    arrays,
    put,
    refused,
)

from lfads_lightning.data import session_files as module
from lfads_lightning.data.session_files import (
    find_sessions,
    load_sessions,
    read_session,
    read_sessions,
    write_session,
)
from lfads_lightning.data.sessions import check_session


def put_matlab(path: Path, content: dict[str, Any], header: bool = True) -> Path:
    """Write keys as MATLAB does: axes in reverse order, its name in a header or by each array."""
    with h5py.File(path, "w", userblock_size=512 if header else 0) as file:
        for key, value in content.items():
            stored = np.atleast_2d(value)
            while stored.ndim > 2 and stored.shape[-1] == 1:  # MATLAB drops last axes of length 1
                stored = stored[..., 0]
            file[key] = stored.T
            if not header:  # one mark at a time
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
    if header:
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    return path


def test_written_session_is_read_back(tmp_path: Path) -> None:
    """All documented keys survive, counts become uint8 on disk, extra keys lie beside them."""
    content = arrays()
    path = write_session(
        tmp_path / "new" / "day1.h5",
        **content,
        **LABELS,
        monkey="J",
        areas=["M1", "PMd"],
        nothing=np.zeros((0, 2)),
        left_out=None,
    )
    session = read_session(path)
    assert (session.name, session.source) == ("day1", str(path))
    assert (session.n_bins, session.data_dim, session.conversion_factor) == (T, D, 100.0)
    for name, split in session.splits.items():
        for what, value in split._asdict().items():
            np.testing.assert_array_equal(value, (content | LABELS).get(f"{name}_{what}"))
    assert session.bin_width_s == 0.01
    assert session.neuron_ids is not None
    assert session.neuron_ids.tolist() == LABELS["neuron_ids"]
    np.testing.assert_array_equal(session.held_out_neurons, LABELS["held_out_neurons"])
    np.testing.assert_array_equal(session.alignment_matrix_cxf, content["alignment_matrix_cxf"])
    np.testing.assert_array_equal(session.alignment_bias_c, content["alignment_bias_c"])
    with h5py.File(path) as file:
        assert file["train_data"].dtype == np.uint8
        assert file["train_data"].compression == "gzip"
        assert file["bin_width_s"][()] == 0.01
        assert file["monkey"].asstr()[()] == "J"
        assert list(file["areas"].asstr()[:]) == ["M1", "PMd"]
        assert file["nothing"].shape == (0, 2)
        assert "left_out" not in file
    assert [entry.name for entry in path.parent.iterdir()] == ["day1.h5"]


def test_real_values_are_written_as_they_are(tmp_path: Path) -> None:
    """Only whole non-negative values become integers."""
    train = np.linspace(-1, 1, 2 * T * D).reshape(2, T, D)
    path = write_session(tmp_path / "a.h5", train_data=train, valid_data=train.round() + 1)
    session = read_session(path)
    assert session.train.data.dtype == np.float64
    np.testing.assert_array_equal(session.train.data, train)
    assert session.valid is not None
    assert session.valid.data.dtype == np.uint8


def test_no_ext_input_columns(tmp_path: Path) -> None:
    """A generator may write I = 0; such arrays are stored, and dropped when loaded."""
    content = arrays(
        train_ext_input=np.ones((E_TRAIN, T, 0)), valid_ext_input=np.ones((E_VALID, T, 0))
    )
    write_session(tmp_path / "a.h5", **content)
    (session,) = load_sessions(tmp_path, "a", **POISSON)
    assert session.train.ext_input is None


def test_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    """The file is replaced only once the new one is whole."""
    path = write_session(tmp_path / "a.h5", **arrays())
    before = path.read_bytes()
    with refused(f"{path}: notes cannot be stored (", "pass an array, a string or a scalar"):
        write_session(path, **arrays(seed=1), notes={"a": 1})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_data": np.ones((2, 3))}, ["train_data has 2 dimensions (2×3)"]),
        ({"train_data": [[1], [1, 2]]}, ["train_data is not an array of numbers"]),
        ({"train_truth": np.ones((1, T, D))}, ["train_truth is 1×5×4, train_data is 6×5×4"]),
        ({"train_truth": np.full((E_TRAIN, T, D), np.nan)}, ["train_truth[0, 0, 0] is nan"]),
        ({"valid_ext_input": None}, ["valid_ext_input is missing", "3×5×2"]),
        ({"train_ext_input": np.float64(3)}, ["train_ext_input is a scalar", "6×5×0"]),
        ({"alignment_matrix_cxf": np.ones((F, D))}, ["3×4", "4×factors_dim", "transpose it"]),
        ({"alignment_bias_c": np.ones(D + 1)}, ["alignment_bias_c has shape (5,)", "4 neurons"]),
        ({"Train_Data": 1}, ["Train_Data is spelled train_data"]),
    ],
)
def test_write_refuses(tmp_path: Path, changes: dict[str, Any], message: list[str]) -> None:
    """What no configuration could read is not written."""
    with refused(f"{tmp_path}/a.h5: ", *message):
        write_session(tmp_path / "a.h5", **arrays(**changes))
    assert not list(tmp_path.iterdir())


def test_write_into_an_impossible_folder(tmp_path: Path) -> None:
    """An operating-system error names the file."""
    (tmp_path / "file").touch()
    with refused("file/a.h5: cannot be written"):
        write_session(tmp_path / "file" / "a.h5", **arrays())


def test_keys_in_any_case_and_unknown_keys(tmp_path: Path) -> None:
    """`Train_ext_input` is read, `notes` and links under other names are not."""
    path = put(tmp_path / "a.h5", notes="x", **{k.capitalize(): v for k, v in arrays().items()})
    put(path, elsewhere=h5py.ExternalLink("nowhere.h5", "/x"))
    session = check_session(read_session(path, name="mine"), **WITH_INPUTS)
    assert session.name == "mine"
    assert session.conversion_factor == 100
    assert session.alignment_matrix_cxf is not None


def test_groups_are_sessions(tmp_path: Path) -> None:
    """One file may hold several data dictionaries; other groups are left aside."""
    path = put(tmp_path / "lab.h5", "day2", **arrays(seed=2))
    put(path, "day1", **arrays(seed=1))
    put(path, "notes", text="x")
    put(path, linked=h5py.SoftLink("/day1"))
    read = read_sessions(path)
    assert [(s.name, s.source) for s in read] == [
        ("day1", f"{path}:day1"),
        ("day2", f"{path}:day2"),
    ]
    np.testing.assert_array_equal(read[1].train.data, arrays(seed=2)["train_data"])
    loaded = load_sessions(tmp_path, "lab", **POISSON)
    assert [s.name for s in loaded] == ["day1", "day2"]
    with refused(str(path), "2 sessions (day1, day2), not one", "read_sessions"):
        read_session(path)


def test_single_group_is_read_as_a_session(tmp_path: Path) -> None:
    """It is named like the group."""
    assert read_session(put(tmp_path / "lab.h5", "day1", **arrays())).name == "day1"


@pytest.mark.parametrize("header", [True, False])
def test_matlab_axes_are_turned_back(tmp_path: Path, header: bool) -> None:
    """The header or the attribute `MATLAB_class` tells; I = 1 gets its dropped axis back."""
    content = arrays(
        train_ext_input=np.ones((E_TRAIN, T, 1)), valid_ext_input=np.ones((E_VALID, T, 1))
    )
    path = put_matlab(tmp_path / "day1.mat", content, header)
    session = check_session(read_session(path), **{**POISSON, "ext_input_dim": 1})
    assert session.name == "day1"
    np.testing.assert_array_equal(session.train.data, content["train_data"])
    assert session.train.data.flags.c_contiguous
    np.testing.assert_array_equal(session.alignment_matrix_cxf, content["alignment_matrix_cxf"])
    np.testing.assert_array_equal(session.alignment_bias_c, content["alignment_bias_c"])


def test_matlab_empty_counts_as_absent(tmp_path: Path) -> None:
    """MATLAB stores `[]` as its size, with an attribute."""
    path = put_matlab(tmp_path / "day1.mat", arrays(alignment_matrix_cxf=np.zeros(2)))
    with h5py.File(path, "a") as file:
        file["alignment_matrix_cxf"].attrs["MATLAB_empty"] = np.uint8(1)
    assert read_session(path).alignment_matrix_cxf is None


def test_missing_file(tmp_path: Path) -> None:
    """A path that leads nowhere."""
    with refused(f"{tmp_path}/a.h5: no such file"):
        read_session(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "not an HDF5 file; make one from a recording with lfads prepare"),
        (b"", "not an HDF5 file"),
        (b"MATLAB 5.0 MAT-file, Platform: PCWIN64", "a MATLAB file older than v7.3; save it with"),
    ],
)
def test_not_hdf5(tmp_path: Path, content: bytes, message: str) -> None:
    """Other formats are told from damaged files."""
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with refused(f"{path}: {message}"):
        read_session(path)


def test_truncated_file(tmp_path: Path) -> None:
    """A copy that broke off cannot be opened."""
    path = put(tmp_path / "a.h5", **arrays())
    path.write_bytes(path.read_bytes()[:-4000])
    with refused(f"{path}: cannot be read (", "truncated", "copy or write it again"):
        read_session(path)


def test_damaged_array(tmp_path: Path) -> None:
    """A broken chunk is found on reading, and the key is named."""
    path = write_session(tmp_path / "a.h5", **arrays())
    with h5py.File(path) as file:
        chunk = file["valid_data"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(raw)
    with refused(f"{path}: valid_data: cannot be read (", "the file is damaged"):
        read_session(path)


def test_damaged_link(tmp_path: Path) -> None:
    """Names out of order make h5py list a key that it cannot find."""
    path = put(tmp_path / "a.h5", ppppp=1, qqqqq=1, train_data=COUNTS)
    path.write_bytes(path.read_bytes().replace(b"qqqqq", b"zzzzz"))
    with refused(f"{path}: train_data: cannot be read (", "not found"):
        read_session(path)


def test_links_are_refused(tmp_path: Path) -> None:
    """An array must lie in the file itself: a link may lead to any file."""
    target = put(tmp_path / "target.h5", **arrays())
    path = put(tmp_path / "a.h5", train_data=h5py.ExternalLink(str(target), "/train_data"))
    with refused(f"{path}: train_data is an external link to /train_data; store the array itself"):
        read_session(path)
    path = put(tmp_path / "b.h5", x=np.ones((2, T, D)), train_data=h5py.SoftLink("/x"))
    with refused(f"{path}: train_data is a soft link to /x; store the array itself"):
        read_session(path)


def test_external_and_virtual_storage_is_refused(tmp_path: Path) -> None:
    """So must its bytes."""
    target = put(tmp_path / "target.h5", train_data=np.ones((2, T, D)))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        raw = [(str(tmp_path / "raw.bin"), 0, 8 * 2 * T * D)]
        file.create_dataset("train_data", (2, T, D), "f8", external=raw)
    with refused(f"{path}: train_data keeps its values in another file"):
        read_session(path)
    path = tmp_path / "b.h5"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((2, T, D), "f8")
        layout[...] = h5py.VirtualSource(target, "train_data", (2, T, D))
        file.create_virtual_dataset("train_data", layout)
    with refused(f"{path}: train_data keeps its values in another file"):
        read_session(path)


@pytest.mark.parametrize(
    ("shape", "found"),
    [((2**20, 2**10, 2**3), "1048576×1024×8 values, 64 GiB"), ((2**40, 2**30, 4), "GiB")],
)
def test_huge_declared_shape(tmp_path: Path, shape: tuple[int, ...], found: str) -> None:
    """Refused before memory is asked for, also where the product exceeds 64 bits."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train_data", shape, "f8", chunks=(1, 1, 1))
    with refused(f"{path}: train_data declares ", found, "the limit is 32 GiB", "split"):
        read_session(path)


def test_array_at_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX_BYTES itself is allowed, one byte less is not enough."""
    content = {"train_data": np.ones((2, T, D), np.uint8)}
    path = put(tmp_path / "a.h5", **content)
    monkeypatch.setattr(module, "MAX_BYTES", 2 * T * D)
    assert read_session(path).data_dim == D
    monkeypatch.setattr(module, "MAX_BYTES", 2 * T * D - 1)
    with refused("train_data declares 2×5×4 values"):
        read_session(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"traindata": [1]}, ["train_data is missing; found traindata", "did you mean traindata?"]),
        ({}, ["train_data is missing; found nothing"]),
        ({"valid_data": np.ones((2, T, D))}, ["train_data is missing; found valid_data"]),
        ({"train_data": h5py.Empty("f4")}, ["train_data is an empty array"]),
        ({"train_data": "abc"}, ["train_data holds text or objects; expected an array of real"]),
        ({"train_data": np.array([b"ab"])}, ["train_data holds text; expected"]),
        ({"train_data": np.ones((2, T, D), complex)}, ["train_data holds complex numbers"]),
        ({"train_data": np.ones(2, [("a", "f4")])}, ["train_data holds values of type"]),
        ({"train_data/x": 1}, ["train_data is a group; expected an array of numbers"]),
        (arrays(Train_data=1), ["both Train_data and train_data; keep one"]),
    ],
)
def test_file_without_usable_data(tmp_path: Path, content: Any, message: list[str]) -> None:
    """Keys missing, doubled or of a type that is no number."""
    path = put(tmp_path / "a.h5", **content)
    with refused(f"{path}: ", *message):
        read_session(path)


def test_group_with_keys_but_no_training_data(tmp_path: Path) -> None:
    """The error names the group."""
    path = put(tmp_path / "a.h5", "day1", valid_data=np.ones((2, T, D)))
    with refused(f"{path}:day1: train_data is missing"):
        read_sessions(path)


def names(folder: Path, stem: str) -> list[str]:
    """List the session names found."""
    return [name for name, _ in find_sessions(folder, stem)]


def test_discovery(tmp_path: Path) -> None:
    """Stem, separator, name; the extension may be absent."""
    taken = ["rnn.h5", "rnn_b.h5", "rnn-c.HDF5", "rnn.d.mat", "rnn_e", "rnn_g1.5", "rnn_f_g.hdf5"]
    left = [".rnn_x.h5", "rnnx.h5", "rnnxy.h5", "rnn_.h5", "other.h5", "xrnn_a.h5"]
    left += ["rnn_notes.txt", "rnn.yaml"]
    for filename in taken + left:
        (tmp_path / filename).touch()
    (tmp_path / "rnn_folder.h5").mkdir()
    put(tmp_path / "rnn.day1", x=1)
    put(tmp_path / "rnn_a.nwb", x=1)
    assert names(tmp_path, "rnn") == ["b", "c", "d", "day1", "e", "f_g", "g1.5", "rnn"]
    assert names(tmp_path, "rnn_f") == ["g"]
    assert names(tmp_path, "rnn_f_") == ["g"], "the stem may end in the separator"
    assert names(tmp_path, "rnn.h5") == ["rnn"], "and in the extension"
    assert dict(find_sessions(str(tmp_path), "rnn"))["d"] == tmp_path / "rnn.d.mat"


def test_empty_stem_takes_hdf5_files(tmp_path: Path) -> None:
    """But nothing that a run wrote beside them."""
    for filename in ("b.h5", "a.hdf5", "c.mat", "d", "model_runs_a.h5", "model_params.h5", ".e.h5"):
        (tmp_path / filename).touch()
    assert names(tmp_path, "") == ["a", "b"]


def test_output_files_are_skipped_under_any_stem(tmp_path: Path) -> None:
    """Also if the stem would take them."""
    for filename in ("model_runs_a_train.h5", "model_params.h5", "model_b.h5"):
        (tmp_path / filename).touch()
    assert names(tmp_path, "model") == ["b"]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """Names are compared without extension."""
    for filename in ("s_a.h5", "s_a.mat"):
        (tmp_path / filename).touch()
    with refused(f"{tmp_path}: s_a.h5 and s_a.mat both give session 'a'"):
        find_sessions(tmp_path, "s")


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there, or is a file."""
    with refused(f"{tmp_path}/none: does not exist; data_dir must be the folder"):
        find_sessions(tmp_path / "none", "s")
    (tmp_path / "a.h5").touch()
    with refused(f"{tmp_path}/a.h5: is a file; data_dir must be the folder"):
        find_sessions(tmp_path / "a.h5", "s")


def test_no_match_lists_the_folder(tmp_path: Path) -> None:
    """The nearest name helps with a slip of the pen."""
    with refused(
        f"{tmp_path}: no file matches data_filename_stem='lorens'; the folder holds nothing;"
    ):
        find_sessions(tmp_path, "lorens")
    for filename in ["lorenz_canonical.h5", *(f"{letter}.txt" for letter in "abcdef")]:
        (tmp_path / filename).touch()
    with refused(
        "holds a.txt, b.txt, c.txt, d.txt, e.txt and 2 more; the nearest is lorenz_canonical.h5"
    ):
        find_sessions(tmp_path, "lorens")
