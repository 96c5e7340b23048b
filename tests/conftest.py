"""Shared by all tests: one thread, tiny data, tiny models."""

import os
import shutil
import signal
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

if not Path("/dev/nvidiactl").exists():
    # no CUDA: Triton's kernels are interpreted; it reads this when torch imports it
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from lfads_lightning.cli.train import main as train_main
from lfads_lightning.config import SessionSpec
from lfads_lightning.model import native
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.params import from_flat
from lfads_lightning.runs.provenance import places_in, remember
from lfads_lightning.runs.run import Run

ROOT = Path(__file__).parents[1]

# sizes of a model that runs in milliseconds; all differ, so that tests notice if two are mixed up
TINY = {
    "ic_dim": 4,
    "factors_dim": 3,
    "ic_enc_dim": 7,
    "gen_dim": 6,
    "ci_enc_dim": 8,
    "con_dim": 9,
    "co_dim": 2,
    "batch_size": 12,
    "device": "cpu:0",
    "recipe": "original",
    "report": False,
}


def slowly(*values):
    """Return values for ``parametrize`` that only the slow tests try."""
    each = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, marks=pytest.mark.slow) for value in each]


def pytest_configure(config):
    """Use one thread; ignore deprecations that only other packages can fix."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for subprocesses and num_threads=null
    # the tests keep their own record of runs
    config.state = tempfile.TemporaryDirectory(prefix="lfads-tests-")
    os.environ["XDG_STATE_HOME"] = config.state.name
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # started in the background by a shell; what is ignored outside stays ignored, and Ctrl-C is
        # what some tests are about
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(native.NativeUnavailable):
        native.library()  # builds it, and says so, before a test looks at what is printed
    # lightning 2.6 (pytorch/utilities/_pytree.py, at each set-up of data loaders) asks torch's
    # pytrees in a way that torch 2.13 deprecates
    config.addinivalue_line(
        "filterwarnings", r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
    )
    # without a C++ compiler, every run says that it is slower than it could be
    config.addinivalue_line("filterwarnings", "ignore:the native kernel:UserWarning")


def pytest_unconfigure(config):
    """Delete the tests' record of runs."""
    config.state.cleanup()


@pytest.fixture
def native_kernel():
    """Skip where there is no native kernel: no compiler, no BLAS to call."""
    try:
        native.library()
    except native.NativeUnavailable as error:
        pytest.skip(f"no native kernel here: {error}")


@pytest.fixture
def bf16_unit(native_kernel):
    """Skip where ``trainer.precision=bf16`` cannot be."""
    if not native.has_bf16():
        pytest.skip("this processor has no avx512_bf16")


@pytest.fixture
def reports():
    """Let training end with figures and a report."""


@pytest.fixture(autouse=True)
def _no_reports(request, monkeypatch):
    """Draw nothing unless a test asks for it: figures take longer than a tiny training run."""
    if "reports" not in request.fixturenames:
        monkeypatch.setattr("lfads_lightning.report.finish._report", lambda *args: {})


def copied(run, to):
    """Copy a run's folder, and record the copy as trained by this user on the same data."""
    return remembered(Path(shutil.copytree(run, to)))


def remembered(run):
    """Record a run's folder as this user's, with the places that its config names."""
    remember(run, places=places_in(Run(run).read_config()))
    return run


class Result(NamedTuple):
    """The outcome of a call of the program."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call the program in this process, from an empty folder."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, argv)])
        GlobalHydra.instance().clear()
        capsys.readouterr()
        code = 0
        with warnings.catch_warnings():  # the program prints them
            warnings.filterwarnings("always", category=UserWarning)
            try:
                train_main()
            except SystemExit as end:
                code = end.code or 0
        GlobalHydra.instance().clear()
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def counts():
    """Twelve trials of 8 bins and 5 neurons, about one spike per bin."""
    counts = np.random.default_rng(0).poisson(1.0, (12, 8, 5))
    counts.setflags(write=False)
    return counts


@pytest.fixture(scope="session")
def spikes(counts):
    """The first four of these trials, as a batch."""
    return torch.tensor(counts[:4])


@pytest.fixture(scope="session")
def new_config():
    """Make a config with tiny sizes; keywords are flat parameter names."""

    def make(**parameters):
        return from_flat(TINY | parameters)

    return make


@pytest.fixture(scope="session")
def new_model(new_config):
    """Make a tiny model.

    ``neurons`` maps session names to numbers of neurons. By default every parameter is moved away
    from its initial value, so that none is 0; ``fresh`` keeps the initial values.
    """

    def make(neurons=None, *, aligned=False, fresh=False, seed=0, **parameters):
        config = new_config(**parameters)
        ext_input_dim = config.data.ext_input_dim
        neurons = neurons or {"a": 5}
        torch.manual_seed(seed)
        specs = [SessionSpec(name, d, ext_input_dim, aligned) for name, d in neurons.items()]
        model = LFADS(config.model, specs)
        if not fresh:
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.3 * torch.randn_like(p))
        return model

    return make
