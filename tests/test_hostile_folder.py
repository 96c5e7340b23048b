"""A folder that somebody sent, with every hostile field known, opened by every command.

Nothing outside it is read, written, deleted, contacted or run: the driver listens to Python's audit
events, a tree outside is compared before and after, a socket waits for whoever calls.
"""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from conftest import TINY, copied

import lfads_lightning as lfads
from lfads_lightning.cli import evaluate, programs, report
from lfads_lightning.cli.overrides import prepare
from lfads_lightning.config import LFADSError
from lfads_lightning.recordings.merged_runs import merge_run
from lfads_lightning.report.page import Link, Section, Table, write_page
from lfads_lightning.runs import provenance
from lfads_lightning.runs.documents import as_cell
from lfads_lightning.runs.run import Run
from lfads_lightning.search import space, sweeps

DRIVER = Path(__file__).parent / "hostile_driver.py"
HOSTILE_NAME = "x/../../outside/evil"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with one session, conditions and all."""
    folder = tmp_path_factory.mktemp("data")
    counts = np.random.default_rng(0).poisson(1.0, (12, 8, 5))
    label = np.array(["=1+1", "$a_{$", "<script>"] * 4)
    lfads.write_session(
        folder / "toy_a.h5",
        train_data=counts,
        valid_data=counts[:6],
        train_condition=label,
        valid_condition=label[:6],
        bin_width_s=0.01,
    )
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run on these data with results of a kind, made by the program."""
    cwd = tmp_path_factory.mktemp("work")
    names = {"ic_dim", "factors_dim", "ic_enc_dim", "gen_dim", "ci_enc_dim", "con_dim", "co_dim"}
    words = [f"model.{k}={v}" for k, v in TINY.items() if k in names]
    words += [
        f"data.data_dir={data}",
        "data.data_filename_stem=toy",
        "trainer.device=cpu:0",
        "recipe=original",
    ]
    words += ["trainer.max_epochs=2", "loss.kl_increase_steps=0", "loss.l2_increase_steps=0"]
    train = [sys.executable, Path(__file__).parents[1] / "train.py", "output.lfads_save_dir=run"]
    kind = ["kind=posterior_push_mean", "trainer.device=cpu:0"]
    for more in ([*words, "output.report=false"], kind):
        done = subprocess.run([*train, *more], cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return cwd / "run"


@pytest.fixture
def outside(tmp_path, data, trained):
    """What is none of the folder's business: a thesis, data, a run, parameters, a program."""
    folder = tmp_path / "outside"
    (folder / "victim").mkdir(parents=True)
    (folder / "victim/thesis.txt").write_text("precious")
    (folder / "victim/metrics.csv").write_text("epoch,step\n0,1\n")
    (folder / "space.yaml").write_text("loss.l2_gen_scale: {min: 1, max: 100}\n")
    (folder / "params.yaml").write_text("seed: 3\n")
    shutil.copytree(data, folder / "data")
    shutil.copytree(trained, folder / "run")
    (folder / "run/figures").mkdir(exist_ok=True)
    program = folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {folder}/PWNED\n")
    program.chmod(0o755)
    return folder


@pytest.fixture
def sent(trained, data, tmp_path):
    """The run as it arrives at somebody else's: without a record of it."""
    folder = Path(shutil.copytree(trained, tmp_path / "sent"))
    shutil.copy(data / "toy_a.h5", folder / "session.h5")
    return folder


@pytest.fixture
def listener():
    """A socket on loopback that counts who calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def nobody_called(server):
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def tree(folder):
    """Return everything in a folder, with contents and times of change."""
    return {
        str(p.relative_to(folder)): (
            p.lstat().st_mtime_ns,
            p.read_bytes() if p.is_file() else None,
        )
        for p in sorted(folder.rglob("*"))
    }


def change_config(folder, **values):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for dotted, value in values.items():
        group, name = dotted.split("__")
        if group:
            config[group][name] = value
        else:
            config[name] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def with_addresses(sent, outside, port):
    """Addresses and paths in every parameter that takes one; a store that is not this user's."""
    change_config(
        sent,
        data__data_dir=str(outside / "data"),
        optim__start_from=str(outside / "run"),
        __params_file=str(outside / "params.yaml"),
        output__lfads_save_dir=str(outside / "victim"),
        search__space=str(outside / "space.yaml"),
        search__ray_address=f"ray://127.0.0.1:{port}",
    )
    state = {"url": f"file://{outside}/victim", "id": "x", "before": None}
    (sent / ".store.json").write_text(json.dumps(state | {"files": {"thesis.txt": [1, 2]}}))


def with_urls(sent, outside, port):
    """The same in a store; the environment sends all of S3 to the listener."""
    change_config(
        sent,
        data__data_dir="s3://evil/data",
        optim__start_from="s3://evil/run",
        __params_file="s3://evil/params.yaml",
        output__lfads_save_dir="s3://evil/out",
    )
    state = {"url": "s3://evil/run", "id": "x", "before": None, "files": {}}
    (sent / ".store.json").write_text(json.dumps(state))


def with_names(sent, outside, port):
    """Names that lead elsewhere, and text that is code to somebody."""
    for path in sent.glob("model_runs_*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["session"] = HOSTILE_NAME
    names = [f"../../outside/run/checkpoints/{p.name}" for p in sent.glob("checkpoints/*.ckpt")]
    for index in ("checkpoint", "checkpoint_lve"):
        (sent / f"checkpoints/{index}.json").write_text(json.dumps(names))
    change_config(
        sent,
        output__csv_log="../outside/victim/metrics",
        output__checkpoint_name="../../outside/victim/x",
        output__output_filename_stem="../outside/victim/y",
        data__data_dir=None,
        data__data_filename_stem="../outside/data/toy",
    )


def with_links(sent, outside, port):
    """Links in place of what commands read, append to, and fill."""
    shutil.rmtree(sent / "figures", ignore_errors=True)
    (sent / "figures").symlink_to(outside / "run/figures")
    for name in ("metrics.csv", "fitlog.csv"):
        (sent / name).unlink()
        (sent / name).symlink_to(outside / "victim/metrics.csv")
    (sent / "report.html").symlink_to(outside / "victim/thesis.txt")
    shutil.rmtree(sent / "checkpoints")
    (sent / "checkpoints").symlink_to("../outside/run/checkpoints")


def with_hdf5(sent, outside, port):
    """Results and a session whose arrays lie in somebody else's file."""
    secret = outside / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["factors"] = np.full((6, 8, 3), 41.5)
        file["train_data"] = np.full((12, 8, 5), 41)
    (outside / "secret.bin").write_bytes(np.full(6 * 8 * 3, 41.5).tobytes())
    layout = h5py.VirtualLayout((6, 8, 3), float)
    layout[:] = h5py.VirtualSource(secret, "factors", (6, 8, 3))
    first, second = sorted(sent.glob("model_runs_*.h5"))[:2]
    for path in (first, second):
        with h5py.File(path, "r+") as file:
            del file["factors"]
            if path == first:
                file["factors"] = h5py.ExternalLink(str(secret), "factors")
            else:
                file.create_virtual_dataset("factors", layout)
    with h5py.File(sent / "session.h5", "r+") as file:
        del file["train_data"]
        file["train_data"] = h5py.ExternalLink(str(secret), "train_data")
    with h5py.File(sent / "model_runs_more.h5", "w") as file:
        file.attrs.update({"kind": "prior_sample"})
        where = [(str(outside / "secret.bin"), 0, 6 * 8 * 3 * 8)]
        file.create_dataset("factors", (6, 8, 3), float, external=where)


HOSTILE = (with_addresses, with_urls, with_names, with_links, with_hdf5)
# whoever sends a folder back may have had it from here: with what was done with it on record
CASES = [(h, own) for h in HOSTILE for own in (False, True) if not own or h is not with_addresses]
# each takes most of a minute: one in the ordinary tests, that leads away
OFTEN = [(with_urls, False)]
CASES = [pytest.param(*c, marks=() if c in OFTEN else pytest.mark.slow) for c in CASES]


@pytest.mark.parametrize(("hostile", "is_own"), CASES)
def test_every_command_on_a_hostile_folder(hostile, is_own, sent, outside, listener, tmp_path):
    port = listener.getsockname()[1]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    if is_own:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", environment["XDG_STATE_HOME"])
            provenance.remember(sent, places=provenance.places_in(Run(sent).read_config()))
    hostile(sent, outside, port)
    before = tree(outside)
    here, out = tmp_path / "here", tmp_path / "out.json"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, DRIVER, sent, outside, out],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["seen"] == []
    assert tree(outside) == before
    assert nobody_called(listener)
    assert not list(tmp_path.rglob("*evil*"))
    for name, (end, text) in found["said"].items():
        assert end in ("0", "1", "2"), (name, end, text)
        assert "Traceback" not in text, (name, text)
        assert (end == "0") == (text.count("error: ") == 0), (name, end, text)
    ends = {name: end for name, (end, _) in found["said"].items()}
    if hostile in (with_addresses, with_urls) and not is_own:
        # what needs nothing from elsewhere works, the others say what to type
        assert ends["lfads report"] == ends["lfads.load"] == ends["kind=prior_sample"] == "0"
        assert ends["resume"] == ends["lfads evaluate"] == ends["kind=posterior_push_mean"] == "2"
        assert "add data.data_dir=" in found["said"]["resume"][1]
        assert "add --data-dir " in found["said"]["lfads evaluate"][1]
        assert "add --data-dir " in found["said"]["lfads report"][1]
    if hostile is with_links:
        assert all(ends[n] == "2" for n in ends if n not in ("lfads check", "lfads align"))
    if hostile is with_hdf5:
        assert ends["lfads export npz"] == ends["lfads merge"] == ends["lfads align"] == "2"
        assert "external link" in found["said"]["lfads align"][1]


def test_own_run_needs_nothing_typed_and_a_moved_one_says_what_to_type(
    trained, data, tmp_path, call, capsys
):
    own, moved = copied(trained, tmp_path / "own"), tmp_path / "moved"
    evaluate.main([str(own), "--metrics", "bits_per_spike"])
    assert call(f"resume={own}", "trainer.max_epochs=3").code == 0
    own.rename(moved)
    refused = call("kind=posterior_push_mean", f"output.lfads_save_dir={moved}")
    assert refused.code == 2
    assert f"add data.data_dir={data}" in refused.err
    typed = f"data.data_dir={data}"
    assert call("kind=posterior_push_mean", f"output.lfads_save_dir={moved}", typed).code == 0
    assert call(f"resume={moved}", typed, "trainer.max_epochs=4").code == 0
    evaluate.main([str(moved), "--metrics", "bits_per_spike"])  # it was trained here since
    shutil.rmtree(moved)
    shutil.copytree(trained, moved)  # another one in its place
    (moved / provenance.ID).unlink(missing_ok=True)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        evaluate.main([str(moved)])
    assert f"add --data-dir {data}" in capsys.readouterr().err


def test_data_inside_the_folder_are_read_if_no_link_leads_out(sent, data, call):
    shutil.copytree(data, sent / "own data")
    change_config(sent, data__data_dir=str(sent / "own data"))
    words = ["kind=posterior_push_mean", f"output.lfads_save_dir={sent}", "trainer.device=cpu:0"]
    assert call(*words).code == 0
    (sent / "own data/toy_a.h5").unlink()
    (sent / "own data/toy_a.h5").symlink_to(data / "toy_a.h5")
    assert "is a link to" in call(*words).err


@pytest.mark.slow
def test_report_takes_typed_data(sent, data, tmp_path, reports):
    change_config(sent, data__data_dir=str(tmp_path / "nowhere"))
    report.main([str(sent), "--data-dir", str(data)])
    assert "The data were not read" not in (sent / "report.html").read_text()


LINKED = ["checkpoints", "figures", "tensorboard", "members", "best", "metrics.csv", "scores.json",
          "config.yaml", "report.html", ".lock", ".run_id", "checkpoints/x.ckpt"]  # fmt: skip


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("target", ["../victim", "/etc/hostname", "a/../../victim"])
def test_link_that_leads_out_is_refused(tmp_path, name, target):
    folder = tmp_path / "run"
    (folder / name).parent.mkdir(parents=True)
    Run(folder).check_links()
    up = "" if "/" not in name or target.startswith("/") else "../"
    (folder / name).symlink_to(up + target)
    with pytest.raises(LFADSError, match="is a link to .* outside the folder"):
        Run(folder).check_links()


def test_links_inside_and_strangers_beside_are_left_alone(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/a.ckpt").write_text("x")
    (folder / "checkpoints/b.ckpt").symlink_to("a.ckpt")
    (folder / "raw").symlink_to("/tmp")  # as in a folder of data in which a run lies
    Run(folder).check_links()
    os.mkfifo(folder / "config.yaml")
    with pytest.raises(LFADSError, match="config.yaml: is neither a file nor a folder"):
        Run(folder).check_links()


def test_results_behind_a_link_are_not_read(sent, outside, tmp_path):
    path = next(sent.glob("model_runs_*.h5"))
    path.unlink()
    path.symlink_to(next((outside / "run").glob("model_runs_*.h5")))
    with pytest.raises(LFADSError, match="is a link to"):
        lfads.export(sent, "npz")
    with pytest.raises(LFADSError, match="is a link to"):
        merge_run(sent)


def test_array_of_a_results_file_with_a_path_for_a_name(sent):
    with h5py.File(next(sent.glob("model_runs_*.h5")), "r+") as file:
        file["..\\..\\evil"] = 1
    with pytest.raises(LFADSError, match="is not a result of a kind"):
        lfads.export(sent, "npz")


SAYS_TOO_MUCH = [
    "+hydra.job.env_set.CXX={outside}/program",
    "hydra.job.env_set={{CXX:{outside}/program}}",
    "hydra.run.dir={outside}/victim",
    "hydra.sweep.subdir=../../outside/victim",
    "hydra.searchpath=['file://{outside}']",
    "hydra/launcher=submitit_slurm",
    "hydra.sweeper.storage=sqlite:///{outside}/x.db",
    "hydra.sweeper._target_=os.system",
    "++model.co_dim=1",
    "~seed",
    "experiment@hydra=lorenz",
    "data.data_filename_stem=${{oc.env:HOME}}",
    "hydra.sweeper.n_jobs='2'",
    "--config-dir={outside}",
    "--config-path={outside}",
]
LEADS_OUT = [
    "data.data_dir={outside}/data",
    "data.data_dir={outside}/data,s3://evil/data",
    "optim.start_from={outside}/run",
    "params_file={outside}/params.yaml",
    "search.space={outside}/space.yaml",
    "search.ray_address=ray://127.0.0.1:1",
    "output.lfads_save_dir={outside}/victim",
    "launcher=joblib",
    "hydra.launcher.n_jobs=1000",
]


def sent_sweep(tmp_path, outside, *words):
    folder = tmp_path / "sweep"
    folder.mkdir()
    argv = ["-m", "seed=0,1", "model.co_dim=0", "sweep=co_dim", "hydra.sweeper.n_jobs=1"]
    argv += [word.format(outside=outside) for word in words]
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"argv": argv, "cwd": str(outside)}))
    return folder, argv


@pytest.mark.parametrize("word", SAYS_TOO_MUCH)
def test_sweep_of_a_stranger_may_not_say(word, tmp_path, outside, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _ = sent_sweep(tmp_path, outside, word)
    with pytest.raises(LFADSError, match="only parameters and presets are used"):
        prepare([f"resume={folder}"])
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("word", LEADS_OUT)
def test_where_a_sweep_of_a_stranger_leads_has_to_be_typed(word, tmp_path, outside, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, argv = sent_sweep(tmp_path, outside, word)
    with pytest.raises(LFADSError, match="used only if you have typed them") as refused:
        prepare([f"resume={folder}"])
    assert argv[-1] in str(refused.value)


def test_sweep_of_a_stranger_goes_on_here_with_what_was_typed(
    tmp_path, outside, data, call, trained
):
    config = Run(trained).read_config()
    sizes = [f"model.{k}={v}" for k, v in vars(config.model).items() if k.endswith("_dim")]
    words = ["data.data_dir=/of/the/sender", "data.data_filename_stem=toy", "trainer.max_epochs=1"]
    folder, argv = sent_sweep(
        tmp_path, outside, *words, "trainer.device=cpu:0", "recipe=original", *sizes
    )
    argv = [word for word in argv if not word.startswith(("sweep=", "hydra.", "model.co_dim=0"))]
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"argv": argv, "cwd": str(outside)}))
    job = {"seed": 0} | {w.split("=")[0]: yaml.safe_load(w.split("=")[1]) for w in argv[2:]}
    (folder / "0").mkdir()
    (folder / "0/job.yaml").write_text(yaml.safe_dump(job))
    (folder / ".submitit").mkdir()
    assert "remove it" in call(f"resume={folder}", f"data.data_dir={data}").err
    (folder / ".submitit").rmdir()
    done = call(f"resume={folder}", f"data.data_dir={data}")
    assert done.code == 0, done.err
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 2
    assert call(f"resume={folder}").code == 0  # it is this user's now


def test_own_sweep_is_replayed_from_the_record_and_not_from_its_folder(
    tmp_path, outside, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder, _ = sent_sweep(tmp_path, outside, SAYS_TOO_MUCH[0])
    provenance.remember(folder, argv=["-m", "seed=5,6"], cwd=str(tmp_path))
    words = prepare([f"resume={folder}"])
    assert "seed=5,6" in words
    assert not any("hydra.job" in word for word in words)


def test_search_of_a_stranger(sent, outside, call, new_config):
    """Its space and its cluster are not looked at; a preset's name is no path."""
    config = new_config(algorithm="pbt", space=str(outside / "space.yaml"), max_epochs=1)
    config.data.data_filename_stem = "lorenz"
    Run(sent).write_config(config)
    refused = call(f"resume={sent}")
    assert refused.code == 2
    assert f"add search.space={outside / 'space.yaml'}" in refused.err
    config.search.space, config.search.ray_address = "autolfads", "ray://127.0.0.1:1"
    Run(sent).write_config(config)
    assert "add search.ray_address=ray://127.0.0.1:1" in call(f"resume={sent}").err
    with pytest.raises(LFADSError, match="no such preset"):
        space.find_space("../../outside/space")


def test_records_that_others_can_write_to_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()
    provenance.remember(tmp_path / "run", places={"data_dir": "/data"})
    assert provenance.is_known(tmp_path / "run", "data_dir", "/data")
    (file,) = (tmp_path / "state").rglob("*.json")
    assert file.parent.stat().st_mode & 0o777 == 0o700
    file.chmod(0o666)
    assert not provenance.is_known(tmp_path / "run", "data_dir", "/data")


def test_run_without_a_place_for_records_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set XDG_STATE_HOME to a folder of yours"):
        provenance.remember(tmp_path, places={})
    assert provenance.record_of(tmp_path) == {}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot be told to")
def test_processes_do_not_import_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multiprocessing.py").write_text("open('PWNED', 'w')")

    @programs.command
    def program():
        subprocess.run([sys.executable, "-c", "import multiprocessing"], check=True)

    program()
    assert not (tmp_path / "PWNED").exists()
    assert "PYTHONSAFEPATH" not in os.environ


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-A1", "@SUM(1)", "\t=1", "\r=1"])
def test_text_that_a_spreadsheet_would_compute_stays_text(text, tmp_path):
    assert as_cell(text) == f"'{text}"
    job = sweeps.RankedJob("0", "finished", 1.0, {text: text, "b": -1.5, "c": "-2"}, tmp_path)
    sweeps.write_results(tmp_path, [job])
    with (tmp_path / "results.csv").open(newline="") as file:
        head, row = csv.reader(file)
    assert head[4] == row[4] == f"'{text}"
    assert row[3:7] == ["1.0", f"'{text}", "-1.5", "-2"]


def test_no_text_of_a_page_is_code(tmp_path):
    bad = "<script>x</script>_{{ 7*7 }}\"'"
    table = Table(bad, [bad], [[Link(bad, "javascript:alert(1)/report.html"), bad]])
    write_page(tmp_path / "a.html", bad, [bad], [], [Section("a", bad, [bad], tables=[table])])
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page
    assert "49" not in page.replace("0.49", "").split("</style>")[1]
    assert 'href="javascript%3Aalert%281%29/report.html"' in page


def test_warning_cannot_speak_to_the_terminal(capsys):
    programs.show_warning("session \x1b]0;x\x07\n", UserWarning)
    assert capsys.readouterr().err == "warning: session  ]0;x  \n"
