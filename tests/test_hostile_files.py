"""Files from strangers: damaged ones are refused or read, and nothing in a file is ever run."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from conftest import slowly

import lfads_lightning as lfads
from lfads_lightning import params
from lfads_lightning.config import Config, LFADSError
from lfads_lightning.data import session_files
from lfads_lightning.data.session_files import read_sessions, write_session
from lfads_lightning.recordings.own_process import run_apart
from lfads_lightning.recordings.readers import matlab, nwb
from lfads_lightning.recordings.readers.nwb import check_nwb
from lfads_lightning.runs import documents
from lfads_lightning.runs.documents import MAX_BYTES, read_document
from lfads_lightning.runs.params_file import read_params_file
from lfads_lightning.runs.run import Run
from lfads_lightning.search.space import read_space

FUZZ = Path(__file__).parent / "fuzz"
needs_limits = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the system limits no process's memory"
)
TARGETS = (
    "session", "params", "config", "space", "checkpoint",
    "npy", "csv", "npz", "mat5", "mat73", "nwb",
)  # fmt: skip


@pytest.mark.parametrize(
    ("target", "n"),
    # what is tried in a process of its own takes longer
    [(t, {"nwb": 3, "checkpoint": 3}.get(t, 60)) for t in TARGETS if t != "mat5"]
    + slowly(*((t, 250) for t in TARGETS)),
)
def test_damaged_files_are_read_or_refused(target, n):
    """No other exception, no file takes long or 1 GB: `hunt.py` says so, and keeps the file.

    What fuzzing has found is read first.
    """
    if target == "nwb":
        pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    done = subprocess.run(
        [sys.executable, FUZZ / "hunt.py", target, "--files", str(n)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == n + len(list((FUZZ / "corpus" / target).glob("*")))
    assert found["refused"] > n / 5


@pytest.mark.slow
@pytest.mark.parametrize("target", ["session", "params", "npz"])
def test_fuzzer_finds_nothing_in_a_short_run(target, tmp_path):
    pytest.importorskip("atheris", reason="needs atheris, of the extra [dev]")
    assert len(list((FUZZ / "corpus" / target).iterdir())) >= 2
    done = subprocess.run(
        [sys.executable, FUZZ / "fuzz.py", target, "5"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,  # where a finding is kept
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr


@pytest.mark.parametrize("number", [1, 2])
def test_mat_file_that_takes_scipy_down_is_refused(number):
    path = FUZZ / "corpus" / "mat5" / f"crash-scipy-{number}"
    with pytest.raises(LFADSError, match="cannot be read "):
        matlab.read_mat(path)


@needs_limits
@pytest.mark.slow  # it is packed here first
def test_mat_file_that_unpacks_to_more_than_it_may_is_refused(tmp_path):
    from scipy.io import savemat

    zeros = np.zeros((1000, 1000, 400), np.uint8)
    savemat(tmp_path / "a.mat", {"counts": zeros[:, :, :40]}, do_compression=True)
    assert matlab.read_mat(tmp_path / "a.mat")["counts"].shape == (1000, 1000, 40)
    savemat(tmp_path / "a.mat", {"counts": zeros}, do_compression=True)
    assert (tmp_path / "a.mat").stat().st_size < 2**20
    with pytest.raises(LFADSError, match="cannot be read "):
        matlab.read_mat(tmp_path / "a.mat")


def test_groups_in_circles_and_empty_giants_in_nwb_are_refused(tmp_path):
    pytest.importorskip("pynwb", reason="needs the extra [nwb]")
    path = tmp_path / "a.nwb"
    with h5py.File(path, "w") as file:
        file.create_group("general")["again"] = file["/"]
    with pytest.raises(LFADSError, match="again is a group that lies elsewhere too"):
        lfads.prepare(path, tmp_path, bin_width_s=0.01)
    with h5py.File(path, "w") as file:
        file.create_dataset("specifications/x", (10**9,), h5py.string_dtype(), chunks=(64,))
    with pytest.raises(LFADSError, match="if these are real data"):
        lfads.prepare(path, tmp_path, bin_width_s=0.01)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("while True: pass", "the library hangs or crashes on it"),
        ("import os; os.kill(os.getpid(), 11)", "the library hangs or crashes on it"),
        pytest.param("bytes(2**31)", "MemoryError", marks=needs_limits),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("raise SystemExit(3)", "ended early"),
    ],
)
def test_file_that_takes_its_reader_down(end, said, tmp_path, monkeypatch):
    (tmp_path / "a_reader.py").write_text(f"def read(path, word):\n    {end}\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "a.x"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=said):
        run_apart(
            "a_reader:read", path, "word", library="the library", seconds_per_gb=1, bytes_per_byte=1
        )


def test_nwb_file_that_takes_the_hdf5_library_down_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.nwb"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    check_nwb(path)

    def crash(*_, **words):
        raise ValueError(f"{words['library']} hangs or crashes on it")

    monkeypatch.setattr(nwb, "run_apart", crash)
    with pytest.raises(LFADSError, match="a.nwb: the HDF5 library hangs or crashes on it"):
        check_nwb(path)


@pytest.mark.parametrize("width", [np.nan, np.inf, 0.0, -1.0, 1e-320, "0.01", [0.01, 0.02]])
def test_bin_width_that_is_none_is_refused(width, tmp_path):
    counts = np.ones((6, 10, 3))
    np.savez(tmp_path / "a.npz", counts=counts, bin_width_s=np.array(width))
    with pytest.raises(LFADSError, match="expected the width of a bin, one positive number"):
        lfads.prepare(tmp_path / "a.npz", tmp_path, bin_width_s=0.05)


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 5)])
def test_spike_times_without_cells_are_refused(shape, tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"spike_times": np.empty(shape, object)})
    with pytest.raises(LFADSError, match="spike_times has no cells"):
        lfads.prepare(tmp_path / "a.mat", tmp_path, bin_width_s=0.05)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def run_folder(new_model, tmp_path):
    """The folder of a tiny model; its checkpoint."""
    from lfads_lightning.inference.trained import TrainedModel

    model = new_model()
    config = params.from_flat({})
    config.model = model.config
    folder = TrainedModel(model, config, n_bins=8, step=1).save(tmp_path / "run")
    (path,) = (folder / "checkpoints").glob("*.ckpt")
    return folder, path


def test_payload_of_a_checkpoint_does_not_run(run_folder, tmp_path):
    folder, path = run_folder
    saved = torch.load(path, weights_only=True)
    for marked in ("first", "second"):
        # the payload works: plain unpickling would run it
        pickle.loads(pickle.dumps(Payload(tmp_path / f"control-{marked}")))
        assert (tmp_path / f"control-{marked}").exists()
    marker = tmp_path / "ran"
    for where in (saved, saved["lfads"], saved["state_dict"]):
        where["payload"] = Payload(marker)
        torch.save(saved, path)
        del where["payload"]
        with pytest.raises(LFADSError, match="is not a checkpoint|is damaged"):
            lfads.load(folder)
    path.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(LFADSError, match="is not a checkpoint|is damaged"):
        lfads.load(folder)
    assert not marker.exists()


def test_packed_checkpoint_is_refused_before_it_is_unpacked(run_folder):
    """Zeros pack a thousandfold: a small file could fill the memory."""
    folder, path = run_folder
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    path.write_bytes(packed.getvalue())
    with pytest.raises(LFADSError, match="it is compressed"):
        lfads.load(folder)


def change(path, act):
    saved = torch.load(path, weights_only=True)
    act(saved)
    torch.save(saved, path)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s: s["lfads"]["config"]["model"].update(gen_dim=10**8), "do not match"),
        (lambda s: s["lfads"].update(sessions=[["a", 10**12]]), "do not match"),
        (
            lambda s: s["lfads"].update(sessions=[["a", 10**12, 0, False, (1,)]]),
            "sessions are not names",
        ),
        (lambda s: s["lfads"].update(sessions=[["../../a", 5]]), "sessions are not names"),
        (lambda s: s["lfads"].update(step=-1), "not a count"),
        (lambda s: s["lfads"].update(config=3), "states no parameters"),
        (lambda s: s["lfads"].update(format_version=10**6), "reads up to"),
        (lambda s: s["lfads"].update(format_version="1"), "names no format"),
        (lambda s: s.pop("lfads"), "names no format"),
        (
            lambda s: s["state_dict"].update({"model.x": torch.zeros(1).expand(10**11)}),
            "not arrays of finite size",
        ),
    ],
)
def test_checkpoint_that_claims_too_much(run_folder, act, message):
    folder, path = run_folder
    change(path, act)
    with pytest.raises(LFADSError, match=message):
        lfads.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "co_dim: !!python/object/apply:os.mkdir [{}]",
        "!!python/object/apply:os.mkdir [{}]",
        "!!python/object/new:os.mkdir [{}]",
        "x: !!python/name:os.mkdir",
    ],
)
def test_tags_in_yaml_run_nothing(text, tmp_path):
    marker, file = tmp_path / "ran", tmp_path / "p.yaml"
    file.write_text(text.format(marker))
    (tmp_path / "config.yaml").write_text(text.format(marker))
    for read in (
        lambda: read_params_file(file),
        lambda: read_space(file),
        lambda: Run(tmp_path).read_config(),
    ):
        with pytest.raises(LFADSError, match="neither YAML nor JSON"):
            read()
    assert not marker.exists()
    yaml.unsafe_load(f"!!python/object/apply:os.mkdir [{tmp_path / 'control'}]")
    assert (tmp_path / "control").exists()  # the payload works


def test_aliases_that_multiply_are_refused(tmp_path):
    """The billion laughs: nine lines, 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    file = tmp_path / "p.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(LFADSError, match="aliases"):
        read_params_file(file)


def test_huge_text_is_refused_unread(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("co_dim: 2\n" + "#" * MAX_BYTES)
    with pytest.raises(LFADSError, match=f"has more than {MAX_BYTES} bytes"):
        read_params_file(file)


@pytest.mark.parametrize(
    "content",
    [b"[" * 60000, b"? " * 30000, b"a: " + b"9" * 60000, b"a: " + b":".join([b"9"] * 20000)],
)
def test_deep_and_long_values_end_in_one_short_line(content, tmp_path):
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(LFADSError) as refused:
        read_params_file(file)
    assert len(str(refused.value)) < 1000


def test_nearly_empty_array_of_huge_shape_is_refused(tmp_path):
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train_data", shape=(10**5, 10**3, 100), dtype="u1", chunks=True)
    assert path.stat().st_size < 10**5
    with pytest.raises(LFADSError, match="if these are real data"):
        read_sessions(path)


def test_bomb_of_zeros_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(session_files, "FREE_BYTES", 2**20)
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        zeros = np.zeros((2**18, 8, 4), np.uint8)
        file.create_dataset("train_data", data=zeros, chunks=(2**15, 8, 4), compression="gzip")
    assert path.stat().st_size < 2**20 / 4
    with pytest.raises(LFADSError, match="if these are real data"):
        read_sessions(path)


# ---- properties

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis, of the extra [dev]")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

QUIETLY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
COUNTS = SHAPES.flatmap(
    lambda shape: hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.int64, np.float64]),
        shape,
        elements=st.integers(0, 120),
    )
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what such counts seem to be
@QUIETLY
@given(COUNTS, st.booleans(), st.booleans())
def test_whatever_counts_are_written_are_read(tmp_path, counts, with_valid, with_truth):
    path = tmp_path / "s.h5"
    more = {"valid_data": counts[:1]} if with_valid else {}
    more |= {"train_truth": counts.astype(np.float32)} if with_truth else {}
    write_session(path, train_data=counts, **more)
    session = lfads.read_session(path)
    np.testing.assert_array_equal(session.train.data, counts)
    assert session.train.data.dtype == np.uint8
    assert (session.valid is not None) == with_valid
    assert (session.train.truth is not None) == with_truth


def values_of(name):
    """Values for a parameter: right ones, wrong types, out of bounds."""
    return st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
        st.lists(st.integers(), max_size=3), st.just(params.flat_value(Config(), name)),
    )  # fmt: skip


FLAT = st.fixed_dictionaries({}, optional={name: values_of(name) for name in params.dotted_names()})


@QUIETLY
@given(FLAT)
def test_any_values_make_a_config_or_one_error(values):
    config, said = None, ""
    try:
        config = params.from_flat(values)
    except LFADSError as error:
        said = str(error)
    assert "\n" not in said
    if config is None:
        return
    again = params.from_dict(yaml.safe_load(yaml.safe_dump(params.to_dict(config))))
    assert again == config


@QUIETLY
@given(st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
))  # fmt: skip
def test_any_document_is_read_as_it_was_written(value):
    if isinstance(value, dict):  # as in a file of parameters
        assert read_document(json.dumps(value).encode(), "x") == value
    text = yaml.safe_dump(value)
    if "*" not in text:
        assert read_document(text.encode(), "x") == yaml.safe_load(text)


@QUIETLY
@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_one_error(content):
    said = "x: "
    try:
        read_document(content, "x")
    except LFADSError as error:
        said = str(error)
    assert said.startswith("x: ")


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": 1, "b', b"\xff\xfe", b"", b"9" * 5000])
def test_any_bytes_in_place_of_json_are_one_error(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(LFADSError, match=r"x.json: is not JSON"):
        documents.read_json(tmp_path / "x.json")
    (tmp_path / "y.json").mkdir()
    with pytest.raises(LFADSError, match=r"y.json: cannot be read"):
        documents.read_json(tmp_path / "y.json")
    with pytest.raises(FileNotFoundError):
        documents.read_json(tmp_path / "z.json")


def test_rows_of_a_damaged_table_are_read_as_far_as_they_go(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"epoch,total\n0,1.5\n1\n2,\xff\n3,4,5,6\n4," + b"1" * 200_000 + b"\n5,6\n")
    rows = documents.read_rows(path)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["total"] for row in rows] == ["1.5", "", "\ufffd", "4"]
    assert documents.read_rows(tmp_path) == documents.read_rows(tmp_path / "none") == []


def test_parameters_from_a_device_without_an_end_are_refused():
    with pytest.raises(LFADSError, match="too many for a file of settings"):
        read_params_file("/dev/zero")
