"""lfads info: what is pasted into an issue tells what helps, and nothing private."""

import json
import shutil

import pytest
import yaml
from conftest import ROOT

from lfads_lightning.cli import info

FIXTURES = ROOT / "tests" / "fixtures"
SECRETS = ("monkey", "subject", "2031", "jane", "lab-share")


@pytest.fixture
def run(tmp_path):
    """A run in which everything that its user could name has a telling name."""
    folder = tmp_path / "jane" / "monkey-2031"
    shutil.copytree(FIXTURES / "poisson", folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"] |= {"data_dir": "/lab-share/jane", "data_filename_stem": "monkey"}
    config["sampling"]["session"] = "subject"
    config["data"]["held_out_neurons"] = [2031]
    config["output"] |= {"csv_log": "jane", "checkpoint_name": "subject", "lfads_save_dir": "/jane"}
    config["search"]["space"] = "/lab-share/space.yaml"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    scores = json.loads((folder / "scores.json").read_text())
    scores |= {
        "subject": 1.0,
        "best_simple_method": "subject",
        "verdict": "of subject",
        "valid/monkey": 2.0,
    }
    (folder / "scores.json").write_text(json.dumps(scores))
    table = json.loads((folder / "evaluation.json").read_text())
    for name in [k for k in table if k not in ("notes", "scored data")]:
        table["subject_" + name] = table.pop(name)
        table["scored data"]["subject_" + name] = table["scored data"].pop(name)
    (folder / "evaluation.json").write_text(json.dumps(table))
    finding = {"title": "Silent neurons in subject", "text": "monkey", "remedy": "jane"}
    found = [{"key": "silent"} | finding, {"key": "subject 2031"} | finding]
    machine = {"torch": "2.13.0", "subject": "monkey"}
    (folder / "report.json").write_text(json.dumps({"machine": machine, "findings": found}))
    row = {"settings": {"co_dim": 1}, "criterion": 5.5, "updates": 9, "seconds": 1.0}
    rows = [
        {"name": "one_input", "is_chosen": True} | row,
        {"name": "subject", "is_chosen": False} | row,
        {"name": "rate_0.016", "is_chosen": False} | row,
        {"name": "rate_subject", "is_chosen": False} | row,
    ]
    (folder / "tried.json").write_text(json.dumps(rows))
    return folder


def facts_of(run, capsys):
    info.main([str(run)])
    out, err = capsys.readouterr()
    assert err == ""
    machine, of_run = out.split("\n\n")
    return out, dict(line.split(":", 1) for line in of_run.splitlines())


def test_tells_what_helps_and_nothing_private(run, capsys):
    out, facts = facts_of(run, capsys)
    assert [
        word
        for word in (*SECRETS, str(run), "/")
        if word in out.replace("train/", "").replace("valid/", "").replace("ramp/", "")
    ] == []
    assert "torch 2.13.0" in facts["written by"]
    assert "trials x" in facts["data"]
    assert "model.gen_dim=" in facts["settings"]
    assert "data.data_dir=(a text)" in facts["settings"]
    assert "data.held_out_neurons=(1 values)" in facts["settings"]
    assert facts["candidates"].strip() == "one_input 5.5 (chosen), rate_0.016 5.5"
    assert facts["training"].strip().startswith("3 epochs, 0 of them not finite")
    assert "valid/hidden_bits_per_spike -0.2866" in facts["scores"]
    assert facts["findings"].strip() == "silent"
    assert "2 checkpoints" in facts["files"]


@pytest.mark.parametrize("name", ["config.yaml", "scores.json"])
def test_damaged_file_is_told_without_its_path(run, name, capsys):
    (run / name).write_text("{")
    assert (
        facts_of(run, capsys)[1]["settings" if name == "config.yaml" else "scores"].strip()
        == "cannot be read"
    )


def test_search_and_sweep_are_told(capsys):
    assert facts_of(FIXTURES / "search", capsys)[1]["what"].strip() == "search of 2 members"
    assert facts_of(FIXTURES / "sweep", capsys)[1]["what"].strip() == "sweep of 2 jobs, 0 failed"


def test_folder_without_a_run_is_a_mistake(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        info.main([str(tmp_path)])
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: contains no run")
