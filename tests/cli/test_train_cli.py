"""The command line, from the outside: what it prints, what it writes, how it says what is wrong."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
import yaml
from conftest import Result, copied
from small_runs import SIZES, SMALL, TRAIN, counts_of, data_args

import lfads_lightning as lfads
from lfads_lightning import interop, params
from lfads_lightning.cli.overrides import prepare
from lfads_lightning.cli.words import parsed
from lfads_lightning.runs.files import presets_dir

KINDS = {
    "posterior_sample_and_average": ["toy_train", "toy_valid"],
    "posterior_push_mean": ["toy_train", "toy_valid"],
    "prior_sample": None,
    "write_model_params": None,
}


def write(folder, name="toy", **arrays):
    """Write a session file as it comes, unchecked; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return folder


def run_process(*argv, cwd, options=()):
    """Call train.py in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HYDRA"))}
    process = subprocess.run(
        [sys.executable, *options, str(TRAIN), *map(str, argv)],
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Result(process.returncode, process.stdout, process.stderr)


class Run(NamedTuple):
    """The run that the tests share."""

    result: Result
    folder: Path
    data: Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Train once, as a user does: a process, a relative folder of data, no folder of the run."""
    cwd = tmp_path_factory.mktemp("work")
    rates = np.random.default_rng(5).uniform(0.5, 2, (12, 8, 5))
    data = write(
        cwd / "my data",
        train_data=counts_of(),
        valid_data=counts_of(6, seed=1),
        train_truth=rates,
        valid_truth=rates[:6],
        conversion_factor=1.0,
    )
    result = run_process(*data_args("'my data'"), *SMALL, cwd=cwd)
    folders = list((cwd / "outputs").glob("*/*"))
    assert len(folders) == 1, result.err
    return Run(result, folders[0], data)


@pytest.fixture
def own_copy(shared, tmp_path):
    """A copy of the shared run that a test may change."""
    return copied(shared.folder, tmp_path / "run")


def tree(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def read_h5(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}, dict(file.attrs)


# --- a training run --------------------------------------------------------------------------


def test_run_ends_well_and_quietly(shared):
    assert shared.result.code == 0
    assert "warning" not in shared.result.err.lower()
    assert "Traceback" not in shared.result.err
    assert "[HYDRA]" not in shared.result.out  # what libraries log while they draw


def test_scores_and_folder_are_printed_last(shared):
    lines = shared.result.out.splitlines()
    table, numbers, end = "\n".join(lines[lines.index("Scores:") + 1 :]).split("\n\n")
    folder = shared.folder.relative_to(shared.data.parent)
    use = f"kind=posterior_sample_and_average output.lfads_save_dir={folder}"
    *places, command = end.splitlines()
    assert places == [f"Run: {folder}", f"Report: {folder}/report.html"]
    assert command.startswith("Rates and factors, as a file: ")
    assert command.endswith(f"train.py {use}")
    scores = json.loads((shared.folder / "scores.json").read_text())
    assert {"valid/total", "valid/bits_per_spike", "valid/rate_r2"} < scores.keys()
    assert (scores["epochs"], scores["updates"], scores["checkpoint"]) == (3, 6, "checkpoint_lve")
    # the model beside the simple methods, best first, and who is ahead
    rows = json.loads((shared.folder / "evaluation.json").read_text())["toy"]["valid"]
    methods = [re.split("  +", line)[0] for line in table.splitlines()[2:-1]]
    assert sorted(methods) == sorted(rows)
    hidden = [rows[m].get("hidden_bits_per_spike", -99) for m in methods[1:]]
    assert hidden == sorted(hidden, reverse=True)
    assert methods[0] == "true rates"
    assert table.splitlines()[-1] == scores["verdict"]
    printed = dict(line.split()[:2] for line in numbers.splitlines())
    assert {"criterion", "valid/total", "epochs", "checkpoint", "chosen_by"} < printed.keys()
    for name, value in printed.items():
        expected = f"{scores[name]:.4g}" if isinstance(scores[name], float) else str(scores[name])
        assert value == expected


def test_data_are_described_first(shared):
    assert shared.result.out.startswith("Data: toy: 12 + 6 trials x 8 bins x 5 neurons\n")


def test_run_writes_the_documented_files(shared):
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", "/".join(shared.folder.parts[-2:]))
    files = tree(shared.folder)
    events = {name for name in files if name.startswith("tensorboard/events.out")}
    assert len(events) == 2  # of training, and of its end
    lowest = {n for n in files if re.fullmatch(r"checkpoints/lfads_vae_lve-\d{8}\.ckpt", n)}
    assert lowest
    figures = {name for name in files if name.startswith("figures/")}
    assert {Path(name).suffix for name in figures} == {".png", ".pdf"}
    assert set(files) - events - lowest - figures - {"tensorboard/hparams.yaml", ".run_id"} == {
        "config.yaml",
        "metrics.csv",
        "fitlog.csv",
        "scores.json",
        "evaluation.json",
        "checkpoints/checkpoint.json",
        "checkpoints/checkpoint_lve.json",
        "checkpoints/lfads_vae-00000002.ckpt",
        "checkpoints/lfads_vae-00000006.ckpt",
        "report.html",
        "report.json",
    }
    assert files["figures/summary.png"].read_bytes().startswith(b"\x89PNG")
    for index, kept in (("checkpoint", {2, 6}), ("checkpoint_lve", None)):
        listed = json.loads(files[f"checkpoints/{index}.json"].read_text())
        lve = "_lve" if kept is None else ""
        expected = {Path(n).name for n in lowest} if kept is None else None
        assert set(listed) == (expected or {f"lfads_vae{lve}-{step:08d}.ckpt" for step in kept})


def test_config_of_the_run_holds_what_was_asked_and_the_defaults(shared):
    config = params.from_dict(yaml.safe_load((shared.folder / "config.yaml").read_text()))
    asked = SIZES | {"data.data_filename_stem": "toy"}
    # so that the folder alone is enough, from anywhere
    asked |= {"data.data_dir": str(shared.data), "output.lfads_save_dir": str(shared.folder)}
    expected = params.from_flat({name.rsplit(".", 1)[-1]: value for name, value in asked.items()})
    assert config == expected


def test_run_is_loaded_from_python(shared):
    trained = lfads.load(shared.folder)
    assert trained.step == 6
    assert trained.posterior_push_mean(counts_of()).rates.shape == (12, 8, 5)


# --- the other kinds -------------------------------------------------------------------------


def expected_names(kind):
    names = KINDS[kind]
    single = {"prior_sample": "model_runs_prior_sample.h5"}
    single["write_model_params"] = "model_params.h5"
    return {f"model_runs_{n}_{kind}.h5" for n in names} if names else {single[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_needs_the_folder_of_the_run_alone(call, own_copy, kind):
    before = {name: path.read_bytes() for name, path in tree(own_copy).items()}
    result = call(f"kind={kind}", f"output.lfads_save_dir={own_copy}")
    assert (result.code, result.err) == (0, "")
    after = tree(own_copy)
    written = set(after) - set(before)
    assert written == expected_names(kind)
    assert {name: after[name].read_bytes() for name in before} == before
    assert result.out.startswith(f"{kind} of {own_copy} (checkpoint, after 6 updates):\n")
    assert {Path(line.strip()).name for line in result.out.splitlines()[1:]} == written
    assert not (Path.cwd() / "outputs").exists()
    for name in written:
        attributes = read_h5(after[name])[1]
        assert attributes["kind"] == kind
        config = params.from_dict(yaml.safe_load(attributes["config"]))
        assert (config.kind.name, config.model.gen_dim) == (kind, 6)


@pytest.mark.parametrize("kind", ["posterior_push_mean", "posterior_sample_and_average"])
def test_kind_takes_other_data(call, own_copy, tmp_path, kind):
    counts = counts_of(7, seed=3)
    other = write(tmp_path / "other", "new", train_data=counts)
    where = [f"kind={kind}", f"output.lfads_save_dir={own_copy}"]
    result = call(*where, *data_args(other, "new"), "sampling.num_posterior_samples=4")
    assert result.code == 0
    paths = {name for name in tree(own_copy) if name.startswith("model_runs")}
    assert paths == {f"model_runs_toy_train_{kind}.h5"}
    arrays = read_h5(own_copy / paths.pop())[0]
    trained = lfads.load(own_copy)
    n = {"num_samples": 4} if kind.endswith("average") else {}
    expected = getattr(trained, kind)(counts, **n)
    np.testing.assert_array_equal(arrays["output_dist_params"], expected.rates)
    # the run itself stays as it was
    config = params.from_dict(yaml.safe_load((own_copy / "config.yaml").read_text()))
    assert config.data.data_filename_stem == "toy"


@pytest.mark.parametrize("kind", ["prior_sample", "write_model_params"])
def test_kind_without_data_needs_none(call, own_copy, kind):
    path = own_copy / "config.yaml"
    path.write_text(re.sub("data_dir: .*", "data_dir: /nowhere", path.read_text()))
    assert call(f"kind={kind}", f"output.lfads_save_dir={own_copy}").code == 0


def test_kind_uses_the_named_checkpoint(call, own_copy):
    expected = {i: lfads.load(own_copy, i) for i in ("checkpoint", "checkpoint_lve")}
    steps = set()
    for index, trained in expected.items():
        name = f"output.checkpoint_pb_load_name={index}"
        result = call("kind=write_model_params", f"output.lfads_save_dir={own_copy}", name)
        arrays, attributes = read_h5(own_copy / "model_params.h5")
        weight = trained.model_params()["LFADS/gen/gen_2_fac/W:0"]
        np.testing.assert_array_equal(arrays["LFADS_gen_gen_2_fac_W:0"], weight)
        assert f"({index}, after {trained.step} updates)" in result.out
        assert attributes["checkpoint"] == index
        steps.add(int(arrays["LFADS_global_step:0"]))
    assert steps == {trained.step for trained in expected.values()}


def test_model_params_can_hold_the_optimisers_moments(call, own_copy):
    where = f"output.lfads_save_dir={own_copy}"
    result = call("kind=write_model_params", where, "output.include_optimizer=true")
    assert (result.code, result.err) == (0, "")
    arrays = read_h5(own_copy / "model_params.h5")[0]
    weights = {n: a for n, a in arrays.items() if not n.startswith("LFADS_LFADS_")}
    del weights["LFADS_global_step:0"]
    slots = {n: a for n, a in arrays.items() if n.startswith("LFADS_LFADS_")}
    untrained = {"LFADS_z_prior_g0_logvar:0"}  # the variance has equal bounds
    for slot in ("Adam", "Adam_1"):
        expected = {
            f"LFADS_{n[:-2]}_{slot}:0": weights[n].shape for n in weights.keys() - untrained
        }
        found = {n: a.shape for n, a in slots.items() if n.endswith(f"_{slot}:0")}
        assert found == expected
    assert all((a >= 0).all() for n, a in slots.items() if n.endswith("_Adam_1:0"))
    _, checkpoint = max((p.name, p) for p in (own_copy / "checkpoints").glob("lfads_vae-*"))
    moments = torch.load(checkpoint, weights_only=True)["optimizer_states"][0]["state"].values()
    total = sum(float(moment["v"].double().sum()) for moment in moments)
    ours = sum(a.sum(dtype=np.float64) for n, a in slots.items() if n.endswith("_Adam_1:0"))
    assert ours == pytest.approx(total, rel=1e-6)
    hps = {n.rsplit(".", 1)[-1]: v for n, v in SIZES.items()}
    again = interop.from_original(arrays, hps).posterior_push_mean(counts_of())
    np.testing.assert_array_equal(
        again.rates, lfads.load(own_copy).posterior_push_mean(counts_of()).rates
    )


# --- sweeps ----------------------------------------------------------------------------------


def jobs(folder):
    """Return the configs of a sweep's jobs, by folder name."""
    return {
        path.parent.name: params.from_dict(yaml.safe_load(path.read_text()))
        for path in folder.glob("*/config.yaml")
    }


def test_multirun_gives_each_job_its_folder(call, shared):
    args = [*data_args(f"'{shared.data}'"), *SMALL, "trainer.max_epochs=2"]
    result = call("-m", *args, "seed=3,4")
    assert result.code == 0
    (sweep,) = Path("outputs/multirun").glob("*/*")
    found = jobs(sweep)
    assert {name: config.seed for name, config in found.items()} == {"0": 3, "1": 4}
    for name, config in found.items():
        assert config.output.lfads_save_dir == str((sweep / name).resolve())
        assert {"scores.json", "metrics.csv", "checkpoints/checkpoint.json"} < set(
            tree(sweep / name)
        )
        assert f"\njob {name} | " in result.out
    rates = [lfads.load(sweep / name).posterior_push_mean(counts_of()).rates for name in found]
    assert not np.allclose(*rates)


@pytest.mark.slow
def test_preset_sweep_goes_through_its_values(call, shared, tmp_path):
    sweep = tmp_path / "sweep"
    small = [s for s in SMALL if not s.startswith("model.co_dim")]
    args = [*data_args(f"'{shared.data}'"), *small, "trainer.max_steps=1"]
    result = call("sweep=co_dim", *args, f"hydra.sweep.dir={sweep}")
    assert result.code == 0
    dims = {name: config.model.co_dim for name, config in jobs(sweep).items()}
    assert dims == {"0": 0, "1": 1, "2": 2, "3": 4}
    for name, dim in dims.items():
        inputs = lfads.load(sweep / name).posterior_push_mean(counts_of()).controller_outputs
        assert (0 if inputs is None else inputs.shape[2]) == dim


# --- where settings come from ----------------------------------------------------------------


def config_of(call, *argv):
    """Train one update with these arguments; return the config of the run."""
    result = call(*argv, "trainer.max_steps=1", "output.lfads_save_dir=run")
    assert result.code == 0, result.err
    return params.from_dict(yaml.safe_load(Path("run/config.yaml").read_text()))


def test_command_line_beats_the_file_and_the_file_beats_a_preset(call, shared):
    Path("mine.yaml").write_text("Ic_dim: 7\nfactors_dim: 4\nco_dim: 3\nl2_gen_scale: 5\n")
    small = [s for s in SMALL if not s.startswith(("model.ic_dim", "model.factors_dim"))]
    sources = ["params_file=mine.yaml", "model=small", *small, "model.co_dim=0"]
    config = config_of(call, *sources, *data_args(f"'{shared.data}'"))
    assert config.model.co_dim == 0  # the command line's, not the file's
    assert (config.model.ic_dim, config.model.factors_dim) == (7, 4)  # not the preset's
    assert config.loss.l2_gen_scale == 5
    assert config.data.batch_size == 6
    assert lfads.load("run").model_params()["LFADS/gen/gen_2_fac/W:0"].shape == (6, 4)


def test_file_can_name_the_data_and_the_folder(call, shared):
    small = {name.rsplit(".", 1)[-1]: value for name, value in SIZES.items()}
    small |= {"data_dir": str(shared.data), "data_filename_stem": "toy", "max_steps": 1}
    small |= {"lfads_save_dir": "from_file"}
    Path("mine.json").write_text(json.dumps(small))
    # where they are has to be typed once: the file may be somebody else's
    refused = call("params_file=mine.json")
    assert refused.code == 2
    assert f"mine.json: names data_dir={shared.data}" in refused.err
    (typed,) = re.findall(r"add (.*) \(once", refused.err)
    data = shlex.split(typed)
    refused = call("params_file=mine.json", *data)
    assert "add output.lfads_save_dir=from_file (once" in refused.err
    assert not Path("from_file").exists()
    place = "output.lfads_save_dir=from_file"
    assert call("params_file=mine.json", *data, place).code == 0
    shutil.rmtree("from_file")
    assert call("params_file=mine.json").code == 0
    assert {"scores.json", "config.yaml"} < set(tree(Path("from_file")))


def test_file_can_name_the_kind(call, own_copy):
    text = json.dumps({"kind": "prior_sample", "lfads_save_dir": str(own_copy)})
    Path("mine.json").write_text(text)
    before = (own_copy / "metrics.csv").read_text()
    result = call("params_file=mine.json", f"output.lfads_save_dir={own_copy}")
    assert result.out.startswith("prior_sample of")
    assert (own_copy / "model_runs_prior_sample.h5").is_file()
    assert (own_copy / "metrics.csv").read_text() == before


@pytest.mark.parametrize(
    "name", ["a b", "it's", 'a"b', "x=1", "a,b", "[x]", "$HOME", "ü", "deep/er", "2024"]
)
def test_any_folder_can_be_the_runs(call, shared, name):
    quoted = "'" + name.replace("'", "\\'") + "'"
    args = [*data_args(f"'{shared.data}'"), *SMALL, "trainer.max_steps=1"]
    result = call(*args, f"output.lfads_save_dir={quoted}")
    assert result.code == 0
    assert f"\nRun: {name}\n" in result.out
    assert "scores.json" in tree(Path(name))
    assert call("kind=prior_sample", f"output.lfads_save_dir={quoted}").code == 0
    assert [p for p in tree(Path.cwd()) if not p.startswith(f"{name}/")] == []


# --- going on --------------------------------------------------------------------------------


def newest(folder):
    name = json.loads((folder / "checkpoints" / "checkpoint.json").read_text())[-1]
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def test_run_is_continued_as_if_it_had_never_stopped(call, shared):
    args = [*data_args(f"'{shared.data}'"), *SMALL]
    call(*args, "trainer.max_epochs=4", "output.lfads_save_dir=whole")
    call(*args, "trainer.max_epochs=2", "output.lfads_save_dir=parts")
    result = call("output.lfads_save_dir=parts", "trainer.max_epochs=4")  # its data are known
    assert result.code == 0
    whole, parts = newest(Path("whole")), newest(Path("parts"))
    assert parts["lfads"]["step"] == whole["lfads"]["step"] == 8
    assert whole["state_dict"].keys() == parts["state_dict"].keys()
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(parts["state_dict"][name], tensor), name
    for log in ("metrics.csv", "fitlog.csv"):
        assert (Path("parts") / log).read_text() == (Path("whole") / log).read_text()
    assert len((Path("parts") / "fitlog.csv").read_text().splitlines()) == 4
    scores = [json.loads((Path(n) / "scores.json").read_text()) for n in ("whole", "parts")]
    for score in scores:
        del score["seconds"]
    assert scores[0] == scores[1]


# --- help ------------------------------------------------------------------------------------

HEAVY = {"torch", "lightning", "matplotlib", "scipy", "tensorboard", "h5py"}
OF_SETTINGS = {"hydra", "omegaconf", "numpy", "yaml"}  # half a second


def modules(result):
    """Return the modules that ``-X importtime`` saw."""
    return {line.rsplit("|", 1)[-1].strip() for line in result.err.splitlines() if "|" in line}


@pytest.fixture(scope="module")
def help_call(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("help")
    started = time.monotonic()
    result = run_process("--help", cwd=cwd, options=["-X", "importtime"])
    return result, time.monotonic() - started, list(cwd.iterdir())


def test_help_answers_soon_and_leaves_nothing(help_call):
    result, seconds, left = help_call
    assert result.code == 0
    assert "lfads_lightning.cli" in modules(result)
    assert modules(result) & (HEAVY | OF_SETTINGS) == set()
    assert seconds < 15  # a tenth of a second on an idle machine
    assert left == []


def test_help_names_every_parameter_and_preset(help_call):
    out = help_call[0].out
    for name in params.dotted_names().values():
        assert re.search(rf"^  {re.escape(name)}=", out, re.MULTILINE), name
    conf = TRAIN.parent / "conf"
    for path in conf.glob("*/*.yaml"):
        assert re.search(rf"\b{path.stem}\b", out), path.stem
    assert "output.lfads_save_dir=RUN" in out
    assert "params_file=" in out


def test_settings_are_shown_without_a_run(tmp_path):
    # recipe=auto would have to read the data
    argv = ["experiment=lorenz", "recipe=original", "model.co_dim=3", "--cfg", "job"]
    result = run_process(*argv, cwd=tmp_path, options=["-X", "importtime"])
    assert result.code == 0
    assert modules(result) & HEAVY == set()
    assert list(tmp_path.iterdir()) == []
    shown = params.from_dict(yaml.safe_load(result.out))
    assert shown.model.co_dim == 3
    assert shown.data.data_filename_stem == "lorenz"
    preset = yaml.safe_load((presets_dir() / "experiment" / "lorenz.yaml").read_text())
    assert shown.trainer.max_steps == preset["trainer"]["max_steps"]
    assert shown.optim == params.from_flat({}).optim


@pytest.mark.parametrize("source", ["params_file", "run"])
def test_shown_settings_are_those_of_the_run(call, own_copy, source):
    Path("mine.yaml").write_text("gen_dim: 6")
    where = {
        "params_file": ["experiment=lorenz", "params_file=mine.yaml"],
        "run": ["kind=prior_sample", f"output.lfads_save_dir={own_copy}"],
    }
    shown = yaml.safe_load(call(*where[source], "--cfg", "job").out)
    assert shown["model"]["gen_dim"] == 6


# --- mistakes --------------------------------------------------------------------------------


def assert_one_error(result, *parts):
    """See that a call failed with one line, which holds these texts in turn."""
    output = result.out + result.err
    errors = [line for line in output.splitlines() if line.startswith("error:")]
    assert result.code != 0
    assert len(errors) == 1, output
    assert "Traceback" not in output
    assert not re.search(r"\wError: ", output)
    assert re.search(".*".join(map(re.escape, parts)), errors[0]), errors[0]
    assert "None" not in errors[0]


@pytest.fixture
def fails(call):
    """Call with these arguments and see that it fails with one line and leaves no files."""

    def check(argv, *parts):
        before = set(tree(Path.cwd()))
        assert_one_error(call(*argv), *parts)
        assert set(tree(Path.cwd())) == before

    return check


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["model.co_dims=3"], ["'model.co_dims'", "did you mean model.co_dim?"]),
        (["model.co_dim=1,2"], ["names several values", "-m"]),
        (["kind=posterior_push_mean"], ["output.lfads_save_dir=RUN"]),
    ],
    ids=["unknown", "several", "no folder"],
)
def test_mistake_of_a_real_call_ends_at_once_with_one_line(tmp_path, argv, parts):
    argv = [*data_args(tmp_path), *argv]
    result = run_process(*argv, cwd=tmp_path, options=["-X", "importtime"])
    assert modules(result) & HEAVY == set()
    assert_one_error(result, *parts)
    assert result.code == 2
    assert list(tmp_path.iterdir()) == []


def test_mistake_in_the_data_of_a_real_call_ends_with_one_line(tmp_path):
    argv = [*data_args(tmp_path / "nowhere"), "trainer.device=cpu:0", "recipe=original"]
    result = run_process(*argv, cwd=tmp_path)
    assert_one_error(result, str(tmp_path / "nowhere"), "does not exist")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert set(tree(tmp_path)) == set()


def test_only_training_waits_for_lightning(own_copy, tmp_path):
    """Importing it takes as long as all the rest."""
    of_training = {"lightning", "torchmetrics", "torch._dynamo"}
    using = ["kind=posterior_push_mean", f"output.lfads_save_dir={own_copy}"]
    result = run_process(*using, cwd=tmp_path, options=["-X", "importtime"])
    assert result.code == 0, result.err
    assert "torch" in modules(result)
    assert modules(result) & of_training == set()
    names = ("interface.trained", "evaluation.scores", "report.run_report", "inference.export")
    imports = ", ".join(f"lfads_lightning.{name}" for name in names)
    seen = f"import sys, {imports}; print(sorted({of_training} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_contradiction_is_found_before_torch_is_imported(tmp_path):
    argv = [*data_args(tmp_path), "recipe=original", "model.inject_ext_input_to_gen=true"]
    result = run_process(*argv, cwd=tmp_path, options=["-X", "importtime"])
    assert_one_error(result, "data.ext_input_dim")
    assert modules(result) & HEAVY == set()


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model.co_dims=3", ["'model.co_dims'", "did you mean model.co_dim?"]),
        ("model.gendim=3", ["'model.gendim'", "did you mean model.gen_dim?"]),
        ("co_dim=3", ["'co_dim'", "did you mean model.co_dim?"]),
        ("loss.co_dim=3", ["'loss.co_dim'", "did you mean model.co_dim?"]),
        ("modle.co_dim=3", ["'modle.co_dim'", "did you mean model.co_dim?"]),
        ("model.zzzzzz=3", ["'model.zzzzzz'", "--help lists them"]),
        ("modle=small", ["'modle'"]),
        ("+model.foo=1", ["'model.foo'"]),
        ("+foo=1", ["'foo'"]),
        ("++model.foo.bar=1", ["'model.foo.bar'"]),
        ("~model.co_dim", ["~model.co_dim"]),
        ("model.co_dim", ["group.name=value"]),
        ("model.co_dim=[1", ["an open bracket"]),
    ],
)
def test_unknown_or_mistyped_name(fails, override, parts):
    fails([override], *parts)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model.co_dim=two", ["model.co_dim is 'two'", "an integer >= 0"]),
        ("model.co_dim=1.5", ["model.co_dim is 1.5", "an integer"]),
        ("model.co_dim=true", ["model.co_dim is True", "an integer"]),
        ("model.co_dim=", ["model.co_dim is ''", "an integer"]),
        ("model.co_dim=[1,2]", ["model.co_dim is [1, 2]", "an integer"]),
        ("model.co_dim={a: 1}", ["model.co_dim is {'a': 1}", "an integer"]),
        ("model.co_dim='${seed}'", ["model.co_dim is", "an integer"]),
        ("model.do_causal_controller=maybe", ["'maybe'", "true or false"]),
        ("model.output_dist=binomial", ["'binomial'", "one of poisson, gaussian"]),
        ("kind=trian", ["kind is 'trian'", "one of train, posterior_sample_and_average"]),
        ("model.co_dim=-1", ["model.co_dim is -1", ">= 0"]),
        ("model.keep_prob=0", ["model.keep_prob is 0", "> 0 and <= 1"]),
        ("model.keep_prob=1.01", ["model.keep_prob is 1.01", "<= 1"]),
        ("data.batch_size=0", ["data.batch_size is 0", ">= 1"]),
        ("optim.learning_rate_init=inf", ["optim.learning_rate_init is inf", "a number"]),
        ("optim.learning_rate_init=nan", ["optim.learning_rate_init is nan", "a number"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs is 0", "or null >= 1"]),
        ("trainer.device=tpu", ["trainer.device is 'tpu'", "gpu:N"]),
        ("seed=4294967296", ["seed is 4294967296"]),
    ],
)
def test_value_of_wrong_type_or_out_of_bounds(call, shared, override, parts):
    arguments = [*data_args(f"'{shared.data}'"), *SMALL, "trainer.max_steps=1", override]
    assert_one_error(call(*arguments), *parts)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["model.ic_prior_var_min=0.5"], ["ic_prior_var_min=0.5", "must not decrease"]),
        (["model.ic_prior_var_max=0.01"], ["ic_prior_var_max=0.01", "must not decrease"]),
        (
            ["optim.do_train_io_only=true", "optim.do_train_encoder_only=true"],
            ["do_train_io_only", "do_train_encoder_only", "choose one"],
        ),
        (["optim.do_train_encoder_only=true", "model.ic_dim=0"], ["model.ic_dim=0"]),
        (
            ["model.output_dist=gaussian", "data.temporal_spike_jitter_width=2"],
            ["temporal_spike_jitter_width=2", "gaussian"],
        ),
        (["model.inject_ext_input_to_gen=true"], ["data.ext_input_dim=0"]),
        (["output.csv_log=a/b"], ["output.csv_log='a/b'", "not a path"]),
        (["output.checkpoint_name=''"], ["output.checkpoint_name is empty"]),
        (["optim.do_train_io_only=true", "model.factors_dim=5"], ["no such parameters"]),
    ],
)
def test_contradictory_flags(fails, shared, flags, parts):
    fails([*data_args(f"'{shared.data}'"), *SMALL, *flags], *parts)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("experiment=nope", ["experiment=nope: no such preset", "lorenz"]),
        ("model=huge", ["model=huge: no such preset", "small"]),
        ("sweep=nope", ["sweep=nope: no such preset", "co_dim"]),
        ("loss=nope", ["loss=nope: no such preset"]),
    ],
)
def test_unknown_preset(fails, override, parts):
    fails([override], *parts)


@pytest.mark.parametrize("override", ["model.co_dim=1,2", "seed=1,2", "experiment=lorenz,itb_rnn"])
def test_several_values_without_a_sweep(fails, override):
    fails([override], override, "names several values; add -m")


def test_jobs_of_a_sweep_need_folders_of_their_own(fails, shared):
    where = ["output.lfads_save_dir=run", *data_args(f"'{shared.data}'")]
    fails(["-m", *where, *SMALL, "seed=0,1"], "its jobs would share one folder")


def test_mistake_in_one_value_of_a_sweep(fails, shared):
    where = data_args(f"'{shared.data}'")
    fails(["-m", *where, *SMALL, "model.co_dim=0,two"], "model.co_dim is 'two'")


def bad_data():
    """Return what is wrong by name: the arrays of the files, more arguments, what is answered."""
    x, v = counts_of(), counts_of(6)
    nan = x.astype(float)
    nan[2] = np.nan
    inf = x.astype(float)
    inf[0, 0, 0] = np.inf
    good = {"train_data": x, "valid_data": v}
    two = ["data.ext_input_dim=2"]
    file = "toy.h5"
    return {
        "no matching file": ({"other": good}, [], ["no file matches", "'toy'", "other.h5"]),
        "no train_data": ({"toy": {"valid_data": v}}, [], [file, "train_data is missing"]),
        "other neurons": (
            {"toy": good | {"valid_data": v[..., :4]}},
            [],
            [file, "valid_data has 4 neurons, train_data has 5"],
        ),
        "other bins": (
            {"toy": good | {"valid_data": v[:, :7]}},
            [],
            [file, "valid_data has 7 time bins, train_data has 8"],
        ),
        "other bins in a session": (
            {"toy_a": good, "toy_b": {k: a[:, :7] for k, a in good.items()}},
            [],
            ["toy_b.h5", "7 bins", "toy_a.h5", "8"],
        ),
        "negative": ({"toy": good | {"train_data": -x}}, [], [file, "train_data", "negative"]),
        "nothing in a trial": (
            {"toy": good | {"train_data": nan}},
            [],
            [file, "all entries of trial 2 of train_data"],
        ),
        "infinite": ({"toy": good | {"valid_data": inf}}, [], [file, "valid_data[0, 0, 0] is inf"]),
        "halves": ({"toy": good | {"train_data": x + 0.5}}, [], [file, "output_dist=gaussian"]),
        "no external inputs": ({"toy": good}, two, [file, "train_ext_input is missing", "12×8×2"]),
        "no external inputs of one split": (
            {"toy": good | {"train_ext_input": np.zeros((12, 8, 2))}},
            two,
            [file, "valid_ext_input is missing", "6×8×2"],
        ),
        "other external inputs": (
            {"toy": good | {"train_ext_input": np.zeros((12, 8, 3))}},
            two,
            [file, "train_ext_input is 12×8×3", "12×8×2"],
        ),
        "alignment": (
            {"toy": good | {"alignment_matrix_cxf": np.ones((5, 4))}},
            [],
            [file, "alignment_matrix_cxf is 5×4", "5×3"],
        ),
        "text": ({"toy": good | {"train_data": "text"}}, [], [file, "train_data"]),
        "one trial": ({"toy": good | {"train_data": x[0]}}, [], [file, "2 dimensions"]),
        "no trials": ({"toy": good | {"train_data": x[:0]}}, [], [file, "is empty"]),
        "empty folder": ({}, [], ["no file matches", "nothing"]),
    }


@pytest.mark.parametrize("what", bad_data())
def test_bad_data(fails, tmp_path, what):
    files, more, parts = bad_data()[what]
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, arrays in files.items():
        write(folder, name, **arrays)
    fails([*data_args(folder), *SMALL, *more], str(folder), *parts)


def test_no_data_folder(fails, tmp_path):
    fails([*data_args(tmp_path / "nowhere"), *SMALL], str(tmp_path / "nowhere"), "does not exist")


@pytest.mark.parametrize("content", [b"", b"hello", b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n\x1a\n"])
def test_file_that_is_not_hdf5(fails, tmp_path, content):
    (tmp_path / "toy.h5").write_bytes(content)
    fails([*data_args(tmp_path), *SMALL], str(tmp_path / "toy.h5"))


def test_truncated_data_file(fails, tmp_path):
    write(tmp_path, train_data=counts_of())
    whole = (tmp_path / "toy.h5").read_bytes()
    (tmp_path / "toy.h5").write_bytes(whole[: len(whole) // 2])
    fails([*data_args(tmp_path), *SMALL], str(tmp_path / "toy.h5"), "damaged")


def test_no_embedded_data_of_this_name(fails):
    fails(["data.data_filename_stem=toy", *SMALL], "'toy'", "data.data_dir is not set", "lorenz")


@pytest.mark.parametrize("kind", KINDS)
def test_kind_without_a_run(fails, kind):
    fails([f"kind={kind}"], f"kind={kind}", "output.lfads_save_dir=RUN")
    fails([f"kind={kind}", "output.lfads_save_dir=nowhere"], "nowhere is not a folder")


@pytest.mark.parametrize("kind", KINDS)
def test_kind_on_a_folder_without_a_checkpoint(fails, kind):
    folder = Path("notes")
    folder.mkdir()
    (folder / "notes.txt").write_text("not a run")
    fails([f"kind={kind}", "output.lfads_save_dir=notes"], "notes", "has no checkpoint")
    assert (folder / "notes.txt").is_file()


def test_mistake_leaves_the_users_folder(fails):
    Path("mine").mkdir()
    fails(["kind=prior_sample", "output.lfads_save_dir=mine"], "has no checkpoint")
    assert Path("mine").is_dir()


def test_missing_index_is_answered_with_the_one_there_is(fails, own_copy):
    (own_copy / "checkpoints" / "checkpoint_lve.json").unlink()
    lve = ["output.checkpoint_pb_load_name=checkpoint_lve", f"output.lfads_save_dir={own_copy}"]
    fails(["kind=prior_sample", *lve], "'checkpoint_lve'", "checkpoint_pb_load_name=checkpoint is")


def unfit_data(tmp_path):
    """Return folders of data that the shared run does not fit, with what tells them apart."""
    x, v = counts_of(12, 8, 4), counts_of(6, 8, 4)
    write(tmp_path / "narrow", train_data=x, valid_data=v)
    for name in ("toy_p", "toy_q"):
        write(tmp_path / "two", name, train_data=counts_of(), valid_data=counts_of(6))
    return {
        "narrow": ("has 4 neurons, but the model's session 'toy' has 5", "'toy' (4 neurons)"),
        "two": ("has no session 'p'", "'p' (5 neurons), 'q' (5 neurons)"),
    }


@pytest.mark.parametrize("which", ["narrow", "two"])
def test_run_does_not_fit_the_data(fails, own_copy, tmp_path, which):
    of_kind, of_training = unfit_data(tmp_path)[which]
    where = [f"output.lfads_save_dir={own_copy}", *data_args(tmp_path / which)]
    before = tree(own_copy).keys()
    fails(["kind=posterior_push_mean", *where], of_kind)
    fails([*where, "trainer.max_epochs=9"], "'toy' (5 neurons), but the data are", of_training)
    assert tree(own_copy).keys() == before


def test_structure_of_a_trained_model_cannot_be_changed(fails, own_copy):
    where = [f"output.lfads_save_dir={own_copy}", "model.gen_dim=7"]
    fails(["kind=prior_sample", *where], "model.gen_dim=7", "leave model.* out")
    fails(where, "model.gen_dim=6 (now 7)", "another output.lfads_save_dir")


@pytest.mark.parametrize("n_bytes", [0, 1000, -1000])
def test_truncated_checkpoint(fails, own_copy, n_bytes):
    for path in (own_copy / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:n_bytes])
    where = f"output.lfads_save_dir={own_copy}"
    fails(["kind=prior_sample", where], str(own_copy), "lfads_vae-00000006.ckpt", "damaged")
    fails([where, "trainer.max_epochs=9"], "lfads_vae-00000006.ckpt", "damaged")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"{: [", ["is neither YAML nor JSON"]),
        (b"model: {co_dim: 3", ["is neither YAML nor JSON"]),
        (b"\x00\x01", ["is neither YAML nor JSON"]),
        (b"", ["holds no parameters"]),
        (b"just a text", ["holds no parameters"]),
        (b"- 1\n- 2\n", ["holds no parameters"]),
        (b"model: 3\n", ["'model'"]),
        (b"model:\n  co_dimm: 3\n", ["model.co_dimm", "did you mean model.co_dim?"]),
        (b"model:\n  co_dim: many\n", ["model.co_dim is 'many'", "an integer"]),
        (b"\xff\xfe\x80", ["is neither YAML nor JSON"]),
    ],
)
def test_damaged_config_of_a_run(fails, own_copy, content, parts):
    (own_copy / "config.yaml").write_bytes(content)
    where = f"output.lfads_save_dir={own_copy}"
    fails(["kind=prior_sample", where], str(own_copy / "config.yaml"), *parts)
    fails([where], str(own_copy / "config.yaml"), *parts)


def test_missing_config_of_a_run(fails, own_copy):
    (own_copy / "config.yaml").unlink()
    where = f"output.lfads_save_dir={own_copy}"
    fails(["kind=posterior_push_mean", where], str(own_copy), "config.yaml is missing")


@pytest.mark.parametrize("content", [b"", b"epoch,st", b"\xff\xfe\n", b"hello\nworld\n"])
def test_run_with_damaged_logs_goes_on(call, own_copy, content):
    for name in ("metrics.csv", "fitlog.csv"):
        (own_copy / name).write_bytes(content)
    result = call(f"resume={own_copy}", "trainer.max_epochs=5")
    assert result.code == 0, result.err
    with (own_copy / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["3", "4"]


@pytest.mark.parametrize("content", ["{", "3", "[1, 2]"])
def test_damaged_index_of_a_run(fails, own_copy, content):
    path = own_copy / "checkpoints" / "checkpoint.json"
    path.write_text(content)
    where = f"output.lfads_save_dir={own_copy}"
    fails(["kind=prior_sample", where], str(path), "not a list of file names")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["params_file=mine.yaml", "cannot be read"]),
        (b"{: [", ["mine.yaml", "neither YAML nor JSON"]),
        (b"\xff\xfe\x80", ["mine.yaml", "neither YAML nor JSON"]),
        (b"just a text", ["mine.yaml", "holds a str"]),
        (b"- 1\n- 2\n", ["mine.yaml", "holds a list"]),
        (b"co_dims: 3\n", ["mine.yaml", "'co_dims'", "did you mean co_dim?"]),
        (b"co_dim: many\n", ["mine.yaml", "model.co_dim is 'many'", "an integer"]),
        (b"co_dim: -3\n", ["mine.yaml", "model.co_dim is -3", ">= 0"]),
        (b"co_dim: 1\nCo_dim: 2\n", ["mine.yaml", "co_dim is given twice"]),
        (b"ic_prior_var_min: 3\n", ["ic_prior_var_min=3", "must not decrease"]),
        (b"kind: prior_sample\n", ["kind=prior_sample", "output.lfads_save_dir=RUN"]),
    ],
)
def test_missing_or_damaged_params_file(fails, shared, content, parts):
    if content is not None:
        Path("mine.yaml").write_bytes(content)
    fails([*data_args(f"'{shared.data}'"), "params_file=mine.yaml"], *parts)


def test_interrupt_ends_with_one_line(call, shared, monkeypatch):
    def press(module, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr("lfads_lightning.training.module.LFADSModule.training_step", press)
    result = call(*data_args(f"'{shared.data}'"), *SMALL, "output.lfads_save_dir=mine")
    assert result.code == 130
    assert "Traceback" not in result.err
    assert result.err.rstrip().endswith("output.lfads_save_dir=mine")


# --- words that Hydra cannot read ---


@pytest.mark.parametrize("value", ["a[1]", "ü😀", "a{1}", "a'b", 'a"b', "a=b", 'a[\\"b', "[a\\"])
def test_special_characters_are_one_error_with_a_remedy_that_works(call, value):
    result = call(f"data.data_dir={value}", "seed=1")
    assert result.code == 2
    assert result.err.startswith("error: command line: ")
    assert result.err.count("\n") == 1
    (word,) = shlex.split(result.err.split("two pairs of quotes: ")[1])
    assert parsed([word])[0].value() == value


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("model.co_dim", "'model.co_dim': expected group.name=value"),
        ("data.data_dir='a", "a quote is not closed"),
    ],
)
def test_words_without_a_value_or_with_half_a_quote(call, word, part):
    result = call("seed=1", word)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert part in result.err


def test_options_stand_anywhere(call, tmp_path):
    result = call("model.co_dim=3", "--cfg", "job", "seed=5", "--config-dir", str(tmp_path), "a")
    assert "'a': expected group.name=value" in result.err
    result = call("model.co_dim=3", "--cfg", "job", "seed=5", "--config-dir", str(tmp_path))
    assert result.code == 0
    settings = yaml.safe_load(result.out)
    assert (settings["model"]["co_dim"], settings["seed"]) == (3, 5)
    given = ["seed=0,1", "-m", "--config-dir=a=b", "model.co_dim=1"]
    assert prepare([*given, "experiment=lorenz"])[:2] == ["-m", "--config-dir=a=b"]
