"""Conditions on columns: what they select, how they are refused, and that they reach the file."""

import numpy as np
import pytest

import lfads_lightning as lfads
from lfads_lightning.cli.prepare import main
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.selection import MOST_PARENTHESES, chosen

COLUMNS = {
    "success": np.array([True, True, False, True, False]),
    "rt": np.array([500.0, 700, 300, np.nan, 100]),
    "limit": np.array([600, 600, 200, 600, 200]),
    "side": np.array(["left", "right", "left", "up", ""]),
    "n.targets": np.array([1, 2, 0, 4, 3]),
    "go cue": np.arange(5.0),
    "not_used": np.zeros(5),
}
COUNTS = np.random.default_rng(0).poisson(1.0, (20, 12, 4))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("success", [0, 1, 3]),
        ("success and rt < 600", [0]),
        ("not success or side == 'up'", [2, 3, 4]),
        ("not (success or side == 'up')", [2, 4]),
        ("success == True and rt >= 5e2", [0, 1]),
        ("rt < limit", [0, 4]),
        ("100 < rt <= 700 and rt != 300", [0, 1]),
        ("side in ['left', \"up\"]", [0, 2, 3]),
        ("side not in ['left'] and `go cue` > -.5", [1, 3, 4]),
        ("n.targets in [1, 2,]", [0, 1]),
        ("n.targets", [0, 1, 3, 4]),
        ("rt", [0, 1, 2, 4]),
        ("rt != 500", [1, 2, 3, 4]),
        ("not rt < 600", [1, 3]),
        ("success or success and rt > 1e9", [0, 1, 3]),
        ("side == ''", [4]),
        ("((rt>+450)and(side!='right'))", [0]),
        ("1 < 2", [0, 1, 2, 3, 4]),
    ],
)
def test_what_is_selected(text, rows):
    assert np.flatnonzero(chosen(text, COLUMNS, 5, "where", "a")).tolist() == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; expected a condition, such as"),
        ("succes", "names succes, which is no column; did you mean success?; expected one of succ"),
        ("rt = 500", "not understood from '= 500' on; expected write == for equality"),
        ("rt < 5 & success", "from '& success' on; expected write and"),
        ("rt < 'left'", "compares rt, which holds numbers, with 'left', which holds texts"),
        ("side == 3", "two of a kind; side holds '', 'left', 'right', 'up'"),
        ("side < 'left'", "has < between texts"),
        ("side", "texts of side by themselves; expected a comparison, as in side == 'text'; side"),
        ("rt <", "ends after '<'; expected a column, a number or a 'text'"),
        ("rt < 5 success", "has 'success' after '5'; expected and, or, or the end"),
        ("(rt < 5", "ends after '5'; expected a closing parenthesis"),
        ("side in 'left'", "expected a list in brackets"),
        ("side in ['left' 'up']", "expected a comma or a closing bracket"),
        ("rt in [limit]", "has the column limit in a list"),
        ("__import__('os').system('x')", "not understood from \".system('x')\" on"),
        ("__import__('os')", "names __import__, which is no column"),
        ("rt.__class__", "names rt.__class__, which is no column"),
        ("'left", 'not understood from "\'left" on'),
        ("rt < 3x", "not understood from '3x' on"),
        ("(" * 10_000, f"has over {MOST_PARENTHESES} parentheses"),
        ("not " * 5000, "has 20000 letters; expected at most"),
        ("rt;", "not understood from ';' on"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(LFADSError) as error:
        chosen(text, COLUMNS, 5, "where", "day1.nwb")
    assert said in str(error.value)
    assert str(error.value).startswith('day1.nwb: where "')
    assert len(str(error.value)) < 600
    assert "\n" not in str(error.value)


def test_any_text_is_read_or_refused():
    """Pieces of conditions in any order: nothing else is raised."""
    rng = np.random.default_rng(0)
    pieces = (
        "rt side success ( ) [ ] , and or not in < == 'left' 3 1e999 true ' ` \x00 é = .".split(" ")
    )
    pieces += ["`go cue`", " "]
    refused = 0
    for _ in range(2000):
        text = " ".join(rng.choice(pieces, rng.integers(1, 12)))
        try:
            found = chosen(text, COLUMNS, 5, "where", "a")
        except LFADSError:
            refused += 1
        else:
            assert found.shape == (5,)
            assert found.dtype == bool
    assert 1000 < refused < 1999


def made(tmp_path, arrays, **options):
    return lfads.read_session(lfads.prepare(arrays, tmp_path, name="a", **options))


def test_trials_of_counts_and_conditions_of_two_columns(tmp_path):
    side = np.array(["left", "right"])[np.arange(20) % 2]
    speed = np.arange(20) // 2 % 2 * 0.5
    arrays = {"counts": COUNTS, "side": side, "speed": speed, "rt": np.arange(20.0)}
    session = made(tmp_path, arrays, where="rt >= 4", condition=("side", "speed"))
    inds = np.concatenate([session.train.inds, session.valid.inds])
    assert sorted(inds.tolist()) == list(range(4, 20))
    expected = [f"{side[i]} {speed[i]:g}" for i in inds]
    assert [*session.train.condition, *session.valid.condition] == expected
    assert len(set(session.valid.condition.tolist())) >= 3
    np.testing.assert_array_equal(session.train.data, COUNTS[session.train.inds])


def test_units_of_counts(tmp_path):
    arrays = {
        "counts": COUNTS,
        "region": np.array(["M1", "V1", "M1", "M1"]),
        "unit_ids": np.array([3, 5, 8, 9]),
        "quality": np.array(["good", "good", "mua", "good"]),
    }
    session = made(tmp_path, arrays, units="region == 'M1' and id != 9")
    assert session.neuron_ids.tolist() == [3, 8]
    session = made(tmp_path, arrays, units="quality == 'good'", leave_out=("5",))
    assert session.neuron_ids.tolist() == [3, 9]
    with pytest.raises(LFADSError, match="units \"area == 'M1'\" names area.*one of id, region, q"):
        made(tmp_path, arrays, units="area == 'M1'")
    with pytest.raises(LFADSError, match='units "id > 100" selects none of the 4 units'):
        made(tmp_path, arrays, units="id > 100")


def test_units_and_trials_of_spike_times(tmp_path, capsys):
    rng = np.random.default_rng(0)
    n = 4000
    unit = rng.integers(0, 4, n)
    time = rng.uniform(0, 40, n)
    region = np.array(["M1", "V1"])[unit % 2]
    rows = np.stack([unit.astype(str), time.round(4).astype(str), region], axis=1)
    text = "unit,time,region\n" + "\n".join(map(",".join, rows))
    (tmp_path / "a.csv").write_text(text)
    trials = [f"{s},{'yes' if s % 3 else 'no'}" for s in range(2, 38)]
    (tmp_path / "t.csv").write_text("start_time,hit\n" + "\n".join(trials))
    words = [str(tmp_path / "a.csv"), "--out", str(tmp_path), "--trials", str(tmp_path / "t.csv")]
    words += ["--bin-width-s", "0.1", "--window-s", "0", "0.5", "--align-to", "start_time"]
    chose = ["--where", "hit == 'yes' and start_time > 5", "--units", "region == 'M1'"]
    assert main([*words, *chose]) == 0
    out = capsys.readouterr().out
    assert "2 units that do not satisfy region == 'M1'" in out
    assert "15 trials that do not satisfy hit == 'yes' and start_time > 5" in out
    session = lfads.read_session(tmp_path / "a.h5")
    assert session.neuron_ids.tolist() == [0, 2]
    inds = np.concatenate([session.train.inds, session.valid.inds])
    assert sorted(inds.tolist()) == [i for i in range(36) if (i + 2) % 3 and i + 2 > 5]
    assert main([*words, "--where", "hti == 'yes'"]) == 1
    assert "did you mean hit?; expected one of " in capsys.readouterr().err
    assert main([*words, "--where", "start_time > 99"]) == 1
    assert "selects none of the 36 trials" in capsys.readouterr().err
    chops = [*words[:3], "--bin-width-s", "0.1", "--chop-bins", "5", "--where", "hit == 'yes'"]
    assert main(chops) == 1
    assert (
        "where selects trials by their columns, but chops have no columns"
        in capsys.readouterr().err
    )


def test_quality_is_the_usual_one_unless_it_is_spoken_of(tmp_path):
    np.save(tmp_path / "spike_times.npy", np.arange(0, 300_000, 50))
    np.save(tmp_path / "spike_clusters.npy", np.arange(6000) % 4)
    (tmp_path / "cluster_group.tsv").write_text(
        "cluster_id\tgroup\tdepth\n0\tgood\t10\n1\tmua\t20\n2\tgood\t30\n3\tnoise\t40\n"
    )
    options = {"bin_width_s": 0.05, "chop_bins": 10, "sampling_rate_hz": 30_000}
    for asked, ids in (
        ("depth > 15", [2]),
        ("quality in ['good', 'mua'] and depth > 15", [1, 2]),
        ("group != 'noise'", [0, 1, 2]),
    ):
        path = lfads.prepare(tmp_path, tmp_path, name="a", units=asked, **options)
        assert lfads.read_session(path).neuron_ids.tolist() == ids


def test_split_column(tmp_path, capsys):
    split = np.array(["train", "train", "Val", "test", "none"])[np.arange(20) % 5]
    np.savez(tmp_path / "a.npz", counts=COUNTS, split=split, numbers=np.arange(20))
    words = [str(tmp_path / "a.npz"), "--out", str(tmp_path), "--split-column"]
    assert main([*words, "split"]) == 0
    out = capsys.readouterr().out
    assert "8 train + 4 valid + 4 test trials" in out
    assert "4 trials whose split is none" in out
    session = lfads.read_session(tmp_path / "a.h5")
    assert session.valid.inds.tolist() == [2, 7, 12, 17]
    assert main([*words, "slit"]) == 1
    assert "--split-column slit: trials have no such column" in capsys.readouterr().err.replace(
        "=", " "
    )
    assert main([*words, "numbers"]) == 1
    assert "expected texts: train, val, test" in capsys.readouterr().err
    with pytest.raises(LFADSError, match="calls no trial train; found a, b; expected train"):
        made(tmp_path, {"counts": COUNTS, "s": np.array(["a", "b"] * 10)}, split_column="s")
    with pytest.raises(LFADSError, match="leave out valid_fraction and test_fraction"):
        made(tmp_path, {"counts": COUNTS}, split_column="s", valid_fraction=0.3)


def test_rate_of_real_values_is_that_of_their_events(tmp_path):
    """Deconvolved calcium is 0 between events: these are counted, not summed."""
    rng = np.random.default_rng(0)
    traces = rng.gamma(2.0, 1.0, (20, 50, 4)) * (rng.random((20, 50, 4)) < [0.5, 0.02, 0.5, 1.0])
    traces[..., 1] *= 3  # rare and large: its mean is high
    traces[..., 2] *= 0.3
    session = made(tmp_path, {"counts": traces, "bin_width_s": 0.1}, min_rate_hz=1.0)
    assert session.neuron_ids.tolist() == [0, 2, 3]
    with pytest.raises(
        LFADSError, match="3 channels are 0 between events.* give source_bin_width_s"
    ):
        made(tmp_path, {"counts": traces}, min_rate_hz=1.0)
