"""Stitching: components regression, its variants, files whole or not at all, and mistakes."""

import re
import shutil
import signal
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_session_files import put_matlab

import lfads_lightning as lfads
from benchmarks.crash import child, ended
from lfads_lightning import stitching
from lfads_lightning.cli.align import main as align_main
from lfads_lightning.data.alignment import align_sessions, components_regression
from lfads_lightning.data.session_files import load_sessions, read_session
from lfads_lightning.data.sessions import Session, Split

C, R, T, F = 6, 5, 20, 3
DIMS = {"a": 8, "b": 5, "c": 11}


def latent(seed=0):
    """Three smooth latent variables (C, T, F) that all sessions share."""
    rng = np.random.default_rng(seed)
    t = np.arange(T) / T
    phase, speed = rng.uniform(0, 6, (2, C, 1, F))
    return np.sin(2 * np.pi * t[:, None] * (0.5 + speed / 6) + phase)


def recordings(noise=0.0, dims=DIMS, seed=0):
    """Sessions whose channels are mixtures of the latent variables, R trials a condition."""
    rng, z = np.random.default_rng(seed + 1), latent(seed)
    data, condition = {}, {}
    for name, d in dims.items():
        means = z @ rng.normal(size=(F, d)) + rng.uniform(1, 5, d)
        data[name] = np.repeat(means, R, axis=0) + noise * rng.normal(size=(C * R, T, d))
        condition[name] = np.repeat(np.arange(C), R)
        order = rng.permutation(C * R)
        data[name], condition[name] = data[name][order], condition[name][order]
    return data, condition


@pytest.fixture
def folder(tmp_path):
    """Three session files of Poisson counts with labels."""
    data, condition = recordings()
    for i, (name, x) in enumerate(data.items()):
        counts = np.random.default_rng(i).poisson(np.exp(0.2 * (x - x.mean((0, 1)))))
        lfads.write_session(
            tmp_path / f"m_{name}.h5",
            train_data=counts[5:],
            valid_data=counts[:5],
            train_condition=condition[name][5:].astype(str),
            valid_condition=condition[name][:5].astype(str),
            notes="kept",
        )
    return tmp_path


def test_shared_components_are_found():
    """Without noise every session has all of them; another smoothing changes nothing then."""
    data, condition = recordings()
    found = lfads.align(data, condition, factors_dim=F, smoothing_bins=0)
    assert found.conditions == [str(c) for c in range(C)]
    assert found.variance[:F].sum() == pytest.approx(1)
    for name, d in DIMS.items():
        matrix, bias = found.alignment_matrix_cxf[name], found.alignment_bias_c[name]
        assert matrix.shape == (d, F)
        np.testing.assert_allclose(bias, data[name].mean((0, 1)))
        assert found.components_r2[name] == pytest.approx(1)
        assert found.averages_r2[name] == pytest.approx(1)
        own = np.stack([data[name][condition[name] == c].mean(0) for c in range(C)])
        np.testing.assert_allclose((own - bias) @ matrix, found.components, atol=1e-9)
    # any trial of one condition lands on the same path, whichever session it is of
    trials = [(data[n][condition[n] == 2][0] - found.alignment_bias_c[n])
              @ found.alignment_matrix_cxf[n] for n in DIMS]  # fmt: skip
    np.testing.assert_allclose(trials[0], trials[2], atol=1e-9)


def test_regression_against_the_normal_equations():
    """Ridge and least squares by another way, on either Gram matrix."""
    rng = np.random.default_rng(0)
    for n in (200, 12):  # more rows than channels, and fewer
        averages = [rng.normal(size=(n, d)) for d in (7, 9)]
        found = components_regression(averages, 4, ridge=2.5)
        centred = [x - x.mean(0) for x in averages]
        stack = np.hstack(centred)
        u, s, _ = np.linalg.svd(stack, full_matrices=False)
        np.testing.assert_allclose(np.abs(found.components), np.abs(u[:, :4] * s[:4]), atol=1e-8)
        np.testing.assert_allclose(found.variance[:4], (s**2 / (s**2).sum())[:4])
        for x, w in zip(centred, found.matrices, strict=True):
            gradient = x.T @ (x @ w - found.components) + 2.5 * w
            np.testing.assert_allclose(gradient, 0, atol=1e-8)


def test_smoothing_and_ridge_help_with_noise():
    """What they are for: matrices that bring unseen averages nearer to the components."""
    data, condition = recordings(noise=3.0)
    clean, _ = recordings()
    order = {n: np.argsort(condition[n], kind="stable")[::R] for n in data}

    def error(**settings):
        found = lfads.align(data, condition, factors_dim=F, **settings)
        z = [(clean[n][order[n]] - clean[n].mean((0, 1))) @ found.alignment_matrix_cxf[n]
             for n in data]  # fmt: skip
        spread = np.mean([np.square(x - np.mean(z, axis=0)).mean() for x in z])
        return spread / np.var(np.mean(z, axis=0))

    assert error(smoothing_bins=2) < 0.7 * error(smoothing_bins=0)
    assert error(smoothing_bins=0, ridge=300.0) != error(smoothing_bins=0)
    assert error(smoothing_bins=0, ridge="cv") != error(smoothing_bins=0)


def test_ridge_by_cross_validation_shrinks_with_noise():
    def size(noise):
        data, condition = recordings(noise=noise)
        both = [lfads.align(data, condition, factors_dim=F, smoothing_bins=0, ridge=r)
                for r in ("cv", 0.0)]  # fmt: skip
        return np.divide(*[np.square(x.alignment_matrix_cxf["c"]).sum() for x in both])

    assert size(0.0) == pytest.approx(1, rel=1e-3)
    assert size(8.0) < 0.95


def test_trials_without_a_shared_condition_are_left_out():
    """They are said to be, and change nothing."""
    data, condition = recordings()
    before = lfads.align(data, condition, factors_dim=F)
    data["a"] = np.concatenate([data["a"], 100 + data["a"][:4]])
    condition["a"] = np.concatenate([condition["a"], [-1, -1, 77, 77]])
    with pytest.warns(UserWarning, match="left out") as said:
        after = lfads.align(data, condition, factors_dim=F)
    assert str(said[0].message) == (
        "session 'a': 2 trials without condition and 2 trials of conditions that some "
        "sessions lack (77) are left out of the alignment"
    )
    np.testing.assert_allclose(after.components, before.components)
    assert after.n_trials == {"a": C * R, "b": C * R, "c": C * R}


def test_numbers_and_texts_name_the_same_conditions():
    data, condition = recordings()
    condition["b"] = condition["b"].astype(str)
    assert lfads.align(data, condition, factors_dim=F).conditions == [str(c) for c in range(C)]


def test_new_session_is_brought_to_old_components(folder):
    """--to: the old ones' projections are the target, and their files stay as they are."""
    old = [folder / "m_a.h5", folder / "m_b.h5"]
    new = folder / "m_c.h5"
    lfads.align(old, factors_dim=F)
    before = [p.read_bytes() for p in old]
    found = lfads.align(new, factors_dim=F, to=old)
    assert [p.read_bytes() for p in old] == before
    assert list(found.n_trials) == ["m_c"]
    # the mean of what the old sessions' own matrices make of their averages
    target = np.zeros_like(found.components)
    everyone = align_sessions([read_session(p) for p in old], F)
    for p in everyone.projections.values():
        target += p / 2
    np.testing.assert_allclose(found.components, target, atol=1e-9)
    held = read_session(new).alignment_matrix_cxf
    np.testing.assert_array_equal(held, found.alignment_matrix_cxf["m_c"])


def test_sessions_of_the_same_neurons_need_no_conditions(counts):
    """One matrix, of orthonormal columns, and a bias for each session."""
    data = {"a": counts, "b": counts[::2] + 1}
    found = lfads.align(data, factors_dim=3, same_neurons=True)
    matrix = found.alignment_matrix_cxf["a"]
    np.testing.assert_array_equal(matrix, found.alignment_matrix_cxf["b"])
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-9)
    difference = found.alignment_bias_c["b"] - found.alignment_bias_c["a"]
    expected = counts[::2].mean((0, 1)) + 1 - counts.mean((0, 1))
    np.testing.assert_allclose(difference, expected, atol=0.05)  # smoothing meets the ends
    assert 0 < found.averages_r2["a"] <= 1


def test_files_are_aligned_in_place(folder):
    """Everything else in them stays; training takes them."""
    paths = sorted(folder.glob("*.h5"))
    found = lfads.align(paths, factors_dim=F, figure=folder / "x" / "f.png")
    for path in paths:
        with h5py.File(path) as file:
            assert file["notes"].asstr()[()] == "kept"
            assert "6 shared conditions" in file["alignment_matrix_cxf"].attrs["made_by"]
        session = read_session(path)
        np.testing.assert_array_equal(
            session.alignment_matrix_cxf, found.alignment_matrix_cxf[path.stem]
        )
        np.testing.assert_array_equal(session.alignment_bias_c, found.alignment_bias_c[path.stem])
    assert (folder / "x" / "f.png").read_bytes().startswith(b"\x89PNG")
    sessions = load_sessions(folder, "m", output_dist="poisson", ext_input_dim=0, factors_dim=F)
    assert len(sessions) == 3
    lfads.align(paths, factors_dim=2)  # once more, over the old matrices
    assert read_session(paths[0]).alignment_matrix_cxf.shape == (DIMS["a"], 2)


def test_copies_go_to_another_folder(folder):
    before = {p: p.read_bytes() for p in folder.glob("*.h5")}
    lfads.align(list(before), factors_dim=F, out=folder / "aligned")
    assert {p: p.read_bytes() for p in before} == before
    names = sorted(p.name for p in (folder / "aligned").iterdir())
    assert names == sorted(p.name for p in before)
    assert read_session(folder / "aligned" / "m_b.h5").alignment_bias_c.shape == (DIMS["b"],)


def test_no_file_is_changed_where_one_cannot_be(folder, monkeypatch):
    """A full disk at the last of three files leaves all three as they were."""
    paths = sorted(folder.glob("*.h5"))
    before = {p: p.read_bytes() for p in folder.iterdir()}
    copy, done = shutil.copyfile, []

    def fails_late(source, target):
        done.append(source)
        if len(done) == 3:
            raise OSError(28, "No space left on device", str(target))
        return copy(source, target)

    monkeypatch.setattr(stitching.shutil, "copyfile", fails_late)
    with pytest.raises(lfads.LFADSError, match=r"No space left.*unchanged"):
        lfads.align(paths, factors_dim=F)
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_disk_that_is_full_after_the_copy_is_one_short_error(folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log"
    paths = sorted(folder.glob("*.h5"))
    before = {p: p.read_bytes() for p in folder.iterdir()}
    largest = max(map(len, before.values()))

    def work():
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for more in (0, 60, 300, 1_000):  # than the file as it is; matrix and attributes need 1,500
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest + more, resource.RLIM_INFINITY))
            with pytest.raises(
                lfads.LFADSError, match=r"cannot be written \(File too large\); make"
            ):
                lfads.align(paths, factors_dim=F)
            assert {p: p.read_bytes() for p in folder.iterdir()} == before

    assert ended(child(work, log), block=True) == 0, log.read_text()


def test_groups_and_matlab_files(folder, tmp_path):
    """A file of several sessions, and one whose axes are reversed, get theirs too."""
    parts = {n: read_session(folder / f"m_{n}.h5") for n in "ab"}
    both = tmp_path / "both.h5"
    with h5py.File(both, "w") as file:
        for name, s in parts.items():
            file[f"{name}/train_data"] = s.train.data
            file[f"{name}/train_condition"] = s.train.condition.astype(int)
    c = read_session(folder / "m_c.h5").train
    content = {"train_data": c.data.astype(float), "train_condition": c.condition.astype(float)}
    matlab = put_matlab(tmp_path / "c.mat", content)
    found = lfads.align([both, matlab], factors_dim=F)
    sessions = [*lfads.data.session_files.read_sessions(both), read_session(matlab)]
    assert [s.name for s in sessions] == ["a", "b", "c"]
    for s in sessions:
        np.testing.assert_array_equal(s.alignment_matrix_cxf, found.alignment_matrix_cxf[s.name])
        np.testing.assert_array_equal(s.alignment_bias_c, found.alignment_bias_c[s.name])


def test_averages_are_of_counts_not_of_their_type():
    """256 trials of one spike do not overflow a byte."""
    data = np.ones((300, 4, 2), np.uint8)
    data[:, 1:] += np.arange(3, dtype=np.uint8)[:, None]
    session = Session("a", Split(data, condition=np.zeros(300, int)))
    found = align_sessions([session], 1, smoothing_bins=0)
    np.testing.assert_allclose(found.alignment_bias_c["a"], [1.75, 1.75])


def _with(**changes):
    data, condition = recordings()
    return data | changes.get("data", {}), condition | changes.get("condition", {})


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"condition": {"a": None}}, {}, "session 'a': train_condition is missing"),
        (
            {"condition": {"b": np.full(C * R, 99)}},
            {},
            r"the 3 sessions share no condition \(a: 0, 1, 2, 3, 4 and 1 more; b: 99; .*same label",
        ),
        ({"condition": {"b": np.full(C * R, -1)}}, {}, "share no condition .*b: nothing"),
        ({}, {"factors_dim": 25}, "factors_dim=25 is more than the 24 channels of all sessions"),
        (
            {"condition": dict.fromkeys(DIMS, np.zeros(C * R, int))},
            {"factors_dim": 20},
            "factors_dim=20 is more than the 19 dimensions of 1 conditions × 20 bins",
        ),
        ({"data": {"c": np.ones((C * R, 7, 3))}}, {}, "session 'c': trials have 7 bins, those of"),
        (
            {"data": {"c": np.full((C * R, T, 3), np.nan)}},
            {},
            "session 'c': all entries of trial 0",
        ),
        ({}, {"factors_dim": 0}, "factors_dim=0; expected 1 or more"),
        ({}, {"smoothing_bins": -1}, "smoothing_bins=-1; expected bins, 0 or more"),
        ({}, {"ridge": -1}, "ridge=-1; expected a number of 0 or more, or 'cv'"),
        ({}, {"out": "x"}, "align: out is for files"),
        (
            {},
            {"same_neurons": True},
            "session 'b': has 5 neurons, session 'a' has 8; with same_",
        ),
        ({}, {"same_neurons": True, "ridge": 1.0}, "same_neurons needs no regression"),
        (
            {"condition": dict.fromkeys(DIMS, np.zeros(C * R, int))},
            {"ridge": "cv"},
            "ridge=cv needs two or more shared conditions, and the sessions share only one",
        ),
    ],
)
def test_mistakes(changes, settings, message):
    data, condition = _with(**changes)
    condition = {k: v for k, v in condition.items() if v is not None}
    with pytest.raises(lfads.LFADSError, match=message):
        lfads.align(data, condition, **({"factors_dim": F} | settings))


def test_few_neurons_are_warned_of():
    data, condition = recordings()
    with pytest.warns(UserWarning, match="b: fewer neurons than factors_dim=6"):
        lfads.align(data, condition, factors_dim=6)


def test_others_are_aligned_only_to_aligned_files(folder):
    with pytest.raises(lfads.LFADSError, match=r"m_a.h5: alignment_matrix_cxf is missing; a sess"):
        lfads.align(folder / "m_c.h5", factors_dim=F, to=folder / "m_a.h5")
    with pytest.raises(lfads.LFADSError, match="two sessions are named 'm_a'"):
        lfads.align(folder / "m_a.h5", factors_dim=F, to=folder / "m_a.h5")


def call(capsys, *words):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            align_main([str(w) for w in words])
        except SystemExit as end:
            return end.code, *capsys.readouterr()
    return 0, *capsys.readouterr()


def test_command(folder, capsys, monkeypatch):
    """A table, the files, the figure; a mistake is one line."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    paths = sorted(folder.glob("*.h5"))
    out = folder / "out"
    code, text, err = call(capsys, *paths, "--factors-dim", F, "--out", out, "--ridge", "cv")
    assert (code, err) == (0, "")
    assert re.search(r"^3 components explain \d+\.\d% of the variance of all neurons", text)
    assert re.search(r"^m_b +25 +5 +0\.\d+ +0\.\d+$", text, re.MULTILINE)
    assert f"  {out}/m_a.h5" in text
    assert (out / "alignment.png").is_file()
    assert read_session(out / "m_c.h5").alignment_matrix_cxf.shape == (DIMS["c"], F)
    with h5py.File(out / "m_a.h5") as file:
        assert "ridge=cv" in file["alignment_matrix_cxf"].attrs["made_by"]
    code, text, err = call(capsys, *paths, "--factors-dim", 99)
    assert (code, text) == (2, "")
    assert err.startswith("error: factors_dim=99 is more than the 24 channels")
    assert err.count("\n") == 1
    code, text, err = call(capsys, folder / "none.h5", "--factors-dim", 3)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert "no such file" in err


def test_command_without_conditions(folder, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    path = lfads.write_session(Path(folder) / "x.h5", train_data=np.ones((4, 5, 3), int))
    code, _, err = call(capsys, path, "--factors-dim", 2)
    assert code == 2
    assert "train_condition is missing" in err
    assert "same_neurons" in err
