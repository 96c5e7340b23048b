"""Writing whole files, and folders that two runs never share."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

import lfads_lightning as lfads
from lfads_lightning.config import LFADSError
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.run import Run, Search


def test_runs_that_start_together_get_folders_of_their_own(tmp_path):
    def start(_):
        with Run.new(tmp_path / "day" / "12-00-00") as run:
            run.config.write_text("seed: 0")
        return run.folder.name

    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(start, range(24)))
    assert names == {"12-00-00", *(f"12-00-00-{n}" for n in range(2, 25))}


def test_run_that_fails_at_once_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), Run.new(tmp_path / "new"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_run_that_fails_later_keeps_its_folder(tmp_path):
    with pytest.raises(ValueError, match="late"), Run.new(tmp_path / "new") as run:
        run.config.write_text("seed: 0")
        raise ValueError("late")
    assert (tmp_path / "new" / "config.yaml").read_text() == "seed: 0"


def test_two_fits_in_a_row_share_nothing(counts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {"gen_dim": 4, "ic_enc_dim": 4, "factors_dim": 2, "co_dim": 0, "max_steps": 1}
    first, second = (
        lfads.fit(counts, device="cpu:0", recipe="original", seed=s, **small) for s in (0, 1)
    )
    assert first.folder != second.folder
    assert lfads.load(first.folder).config.seed == 0
    assert re.fullmatch(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d(-2)?", str(second.folder))


def test_run_says_where_it_is_and_how_far(tmp_path):
    run = lfads.Run(str(tmp_path))
    assert repr(run) == f"Run({str(tmp_path)!r})"
    run.scores.write_text('{"updates": 12, "criterion": 3.14159}')
    assert repr(run) == f"Run({str(tmp_path)!r}, 12 updates, criterion 3.142)"
    assert run.read_scores() == {"updates": 12, "criterion": 3.14159}
    run.scores.write_text('{"updates": ')  # damaged: to show it is no error, to read it is
    assert repr(run) == f"Run({str(tmp_path)!r})"
    with pytest.raises(LFADSError, match=r"scores.json: is not JSON"):
        run.read_scores()


def test_run_of_a_search_is_its_best_member(tmp_path):
    search = Search(tmp_path)
    search.config.touch()
    assert search.chosen() is search
    search.best.folder.mkdir()
    search.best.config.touch()
    assert search.chosen() == Run(tmp_path / "best") == search.best


def test_file_is_replaced_whole_or_left(tmp_path):
    path = tmp_path / "deep" / "file"
    with whole_file(path) as new:
        new.write_text("old")
    with pytest.raises(LFADSError, match="file: cannot be written .disk."), whole_file(path) as new:
        new.write_text("half")
        raise OSError("disk")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
