"""The native recurrence is the reference recurrence: same numbers and gradients; its refusals."""

import os
import platform
import shutil
from pathlib import Path

import pytest
import torch

from lfads_lightning.config import (
    Feedback,
    LFADSError,
    LossConfig,
    ModelConfig,
    OutputDist,
    Recurrence,
    SessionSpec,
)
from lfads_lightning.model import builds, fused, native, recurrences
from lfads_lightning.model.cells import GRU, EncoderRun
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import compute_loss
from lfads_lightning.model.records import Masks, Noise
from lfads_lightning.model.visibility import WHOLE
from lfads_lightning.runs import private

SIZES = {
    "ic_dim": 5,
    "factors_dim": 6,
    "ic_enc_dim": 7,
    "gen_dim": 9,
    "ci_enc_dim": 5,
    "con_dim": 8,
    "keep_prob": 0.7,
}
SWITCHES = {
    "controller": {"co_dim": 2},
    "no controller": {"co_dim": 0},
    "no initial condition": {"co_dim": 2, "ic_dim": 0},
    "no feedback": {"co_dim": 2, "do_feed_factors_to_controller": False},
    "rates fed back": {"co_dim": 2, "feedback_factors_or_rates": Feedback.rates},
    "causal, clamped": {"co_dim": 3, "do_causal_controller": True, "cell_clip_value": 0.3},
    "lagged beyond the trial": {"co_dim": 1, "controller_input_lag": 40},
    "injected inputs": {"co_dim": 2, "inject_ext_input_to_gen": True},
    "injected inputs alone": {"co_dim": 0, "inject_ext_input_to_gen": True},
    "short window": {"co_dim": 1, "num_steps_for_gen_ic": 4},
    "gaussian": {"co_dim": 2, "output_dist": OutputDist.gaussian},
    "no dropout": {"co_dim": 2, "keep_prob": 1.0},
}


@pytest.fixture
def native_passes(native_kernel):
    """The native body; skips where this machine has no compiler."""
    return recurrences.NATIVE


def run(model, passes, *, use_means=False, n_trials=13, n_bins=17, device="cpu"):
    """Return everything a pass computes and all gradients of a loss that reads all of it."""
    model.passes = passes
    model.zero_grad()
    rng = torch.Generator().manual_seed(3)
    data = torch.poisson(torch.full((n_trials, n_bins, 11), 0.5), rng).to(device)
    ext = torch.randn(n_trials, n_bins, 2, generator=rng).to(device)
    noise = model.to("cpu").draw_noise(n_trials, n_bins, rng)
    torch.manual_seed(4)
    shown = model.draw_data_mask(n_trials, n_bins, "a")
    masks = model.draw_masks(n_trials, n_bins)
    visibility = WHOLE.dropped_out(None if shown is None else shown.to(device))
    noise = Noise(*(x.to(device) for x in noise))
    masks = Masks(*(None if x is None else x.to(device) for x in masks))
    model.to(device)
    output = model(data, "a", ext, noise, masks, visibility, use_means=use_means)
    loss = compute_loss(model, output, data, LossConfig(l2_con_scale=3.0), 1.0, 1.0).total
    arrays = [output.gen_ics, output.output_dist_params]
    arrays += [a for a in (*output.states, *output.encoding) if a is not None]
    (loss + sum(a.square().mean() for a in arrays[2:])).backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return [a.detach() for a in arrays], grads


@pytest.mark.parametrize("use_means", [False, True], ids=["samples", "means"])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_native_equals_reference(native_passes, switches, use_means):
    torch.manual_seed(0)
    model = LFADS(ModelConfig(**(SIZES | switches)), [SessionSpec("a", 11, 2)])
    theirs, their_grads = run(model, recurrences.REFERENCE, use_means=use_means)
    ours, our_grads = run(model, native_passes, use_means=use_means)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert our_grads.keys() == their_grads.keys()
    for name, grad in their_grads.items():
        scale = float(grad.abs().max())
        torch.testing.assert_close(our_grads[name], grad, rtol=0, atol=2e-5 * scale + 1e-7)


def test_the_kernel_itself_runs(native_passes, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("went to the reference body")

    monkeypatch.setattr(fused.cells, "encoder_passes", fail)
    monkeypatch.setattr(fused.cells, "decoder_pass", fail)
    model = LFADS(ModelConfig(**SIZES, co_dim=2), [SessionSpec("a", 11, 2)])
    run(model, native_passes)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_the_numbers(native_passes, threads):
    torch.manual_seed(0)
    model = LFADS(ModelConfig(**SIZES, co_dim=2), [SessionSpec("a", 11, 2)])
    one = run(model, native_passes)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        more = run(model, native_passes)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(one[0], more[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_float64_goes_to_the_reference_body(native_passes):
    model = LFADS(ModelConfig(**SIZES, co_dim=2), [SessionSpec("a", 11)]).double()
    data, noise = torch.ones(3, 5, 11), model.draw_noise(3, 5)
    theirs = model(data, "a", noise=noise).output_dist_params
    model.passes = native_passes
    assert torch.equal(model(data, "a", noise=noise).output_dist_params, theirs)


def small_pass(native_passes):
    gru = GRU.encoder(3, 4, 1.0)
    x = torch.randn(2, 6, 3, requires_grad=True)
    run = EncoderRun(x, torch.zeros(4), gru.weights, 5.0)
    return x, native_passes.encoder_passes([run])[0][0].sum()


@pytest.mark.parametrize("team", [0, 3])
def test_grus_that_run_at_once_give_what_each_gives_alone(native_passes, monkeypatch, team):
    monkeypatch.setattr(native, "team", team)
    torch.manual_seed(0)
    grus = [GRU.encoder(3, n, 1.0) for n in (4, 7, 5)]
    xs = [torch.randn(9, n_bins, 3) for n_bins in (6, 6, 2)]
    starts = [torch.randn(gru.candidate.shape[0], requires_grad=True) for gru in grus]
    runs = [
        EncoderRun(x, start, gru.weights, 5.0, i == 1)
        for i, (x, start, gru) in enumerate(zip(xs, starts, grus, strict=True))
    ]
    together = native_passes.encoder_passes(runs)
    alone = [native_passes.encoder_passes([r])[0] for r in runs]
    grads = []
    for found in (together, alone):
        # the last state only of one, no output of another
        loss = found[0][0].square().sum() + found[1][1].square().sum()
        leaves = [starts[0], starts[1], *grus[0].parameters(), *grus[1].parameters()]
        others = [starts[2], *grus[2].parameters()]
        grads.append(torch.autograd.grad(loss, leaves + others, allow_unused=True))
    for (states, last), (s, e) in zip(together, alone, strict=True):
        assert torch.equal(states, s)
        assert torch.equal(last, e)
    for ours, theirs in zip(*grads, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)
    assert grads[0][0] is not None


def test_a_frozen_gru_is_not_gone_back_through(native_passes):
    frozen, trained = GRU.encoder(3, 4, 1.0).requires_grad_(False), GRU.encoder(3, 4, 1.0)
    x, start = torch.randn(2, 6, 3), torch.zeros(4)
    runs = [EncoderRun(x, start, gru.weights, 5.0) for gru in (frozen, trained)]
    (states, last), (own, _) = native_passes.encoder_passes(runs)
    assert [t.requires_grad for t in (states, last, own)] == [False, False, True]
    own.sum().backward()
    assert trained.gates.grad is not None
    assert native_passes.encoder_passes([]) == []


def test_a_gradient_may_lie_in_memory_in_any_order(native_passes):
    gru, x, weight = GRU.encoder(3, 4, 1.0), torch.randn(2, 6, 3), torch.randn(4, 2)
    gradients = []
    for passes in (native_passes, recurrences.REFERENCE):
        ((_, last),) = passes.encoder_passes([EncoderRun(x, torch.zeros(4), gru.weights, 5.0)])
        gradients.append(torch.autograd.grad((last.t() * weight).sum(), list(gru.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_second_backward_pass_is_refused(native_passes):
    _, out = small_pass(native_passes)
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass needs a new forward pass"):
        out.backward()


def test_second_order_gradients_are_refused(native_passes):
    x, out = small_pass(native_passes)
    with pytest.raises(RuntimeError, match="no second-order gradients"):
        torch.autograd.grad(out, x, create_graph=True)


@pytest.fixture
def no_compiler(monkeypatch):
    native.library.cache_clear()
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr(builds.shutil, "which", lambda name: None)
    yield
    native.library.cache_clear()


def test_the_best_build_that_a_processor_can_run_is_taken(tmp_path):
    source = tmp_path / "native.cpp"
    source.write_text("// a kernel")
    v4, v3 = (set(needed) for needed in builds.KINDS["x86_64"].values())
    assert builds.fitting(source, "x86_64", v4) is None  # none was carried
    paths = {k: tmp_path / builds.name(k, source) for of in builds.KINDS.values() for k in of}
    for path in paths.values():
        path.touch()
    assert builds.fitting(source, "x86_64", v4) == paths["x86-64-v4"]
    assert builds.fitting(source, "x86_64", v4 - {"avx512vl"}) == paths["x86-64-v3"]
    assert builds.fitting(source, "x86_64", v4, only="x86-64-v3") == paths["x86-64-v3"]
    assert builds.fitting(source, "x86_64", v3, only="x86-64-v4") is None
    assert builds.fitting(source, "x86_64", v3 - {"fma"}) is None
    assert builds.fitting(source, "aarch64", set()) == paths["armv8-a"]
    assert builds.fitting(source, "arm64", v4) is None  # a Mac compiles its own
    source.write_text("// another")
    assert builds.fitting(source, "x86_64", v4) is None


@pytest.fixture
def had_bf16(native_passes):
    """Whether the kernel that is used here has products in bf16."""
    return native.has_bf16()


@pytest.fixture
def carried_kernel(monkeypatch, tmp_path):
    """A build for a kind of processor that this one is of, beside a copy of the source."""
    source = Path(shutil.copy(native.SOURCE, tmp_path))
    compiler, features = shutil.which("c++"), native.processor().split()
    kinds = builds.KINDS.get(platform.machine(), {})
    fitting = [kind for kind, needed in kinds.items() if needed <= set(features)]
    if compiler is None or not fitting:
        pytest.skip("no compiler, or no kind of processor that builds are made for")
    monkeypatch.setattr(native, "SOURCE", source)
    return fitting[-1], builds.build(fitting[-1], compiler, source, tmp_path)


def test_a_carried_kernel_needs_no_compiler(had_bf16, carried_kernel, no_compiler, monkeypatch):
    kind, path = carried_kernel
    passes = recurrences.choose(Recurrence.native)
    assert native.library()._name == str(path)
    recurrences.checked.__wrapped__(passes, "cpu")  # the loop's numbers
    assert native.has_bf16() == had_bf16
    for asked, found in ((kind, str(path)), ("compile", None), ("x86-64-v9", None)):
        native.library.cache_clear()
        monkeypatch.setenv(native.CHOICE, asked)
        if found is None:
            with pytest.raises(native.NativeUnavailable, match="no such build|no C\\+\\+ compiler"):
                native.library()
        else:
            assert native.library()._name == found


def test_a_carried_kernel_that_does_not_load_is_compiled(native_passes, carried_kernel):
    carried_kernel[1].write_bytes(b"no library")  # it is not loaded yet
    native.library.cache_clear()
    assert native.library()._name != str(carried_kernel[1])
    native.library.cache_clear()


def test_auto_falls_back_with_a_notice_where_no_compiler_is(no_compiler):
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        assert recurrences.choose(Recurrence.auto) is recurrences.REFERENCE


def test_native_asked_for_without_a_compiler_is_an_error(no_compiler):
    with pytest.raises(LFADSError, match="trainer.recurrence=native: no C\\+\\+ compiler"):
        recurrences.choose(Recurrence.native)


def test_reference_asked_for_needs_nothing(no_compiler):
    assert recurrences.choose(Recurrence.reference) is recurrences.REFERENCE


@pytest.fixture
def fresh_cache(native_passes, monkeypatch, tmp_path):
    """The kernel in a cache of its own."""
    used = private.private_folder("XDG_CACHE_HOME", ".cache")
    # a copy: to damage what this process has loaded is a bus error
    shutil.copytree(used, tmp_path / private.NAME)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    kernel = Path(native.library()._name)
    assert kernel.is_relative_to(tmp_path)
    native.library.cache_clear()
    spare = kernel.read_bytes()
    kernel.unlink()  # which leaves what is loaded alone
    kernel.write_bytes(spare)
    kernel.chmod(0o700)
    yield kernel
    native.library.cache_clear()


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_damaged_kernel_is_built_anew(fresh_cache, share):
    whole = fresh_cache.read_bytes()
    fresh_cache.write_bytes(whole[: int(len(whole) * share)])
    native.library()  # it would be a bus error
    assert len(Path(native.library()._name).read_bytes()) == len(whole)


def test_a_kernel_that_others_could_have_written_is_built_anew(fresh_cache, capsys):
    fresh_cache.chmod(0o777)
    fresh_cache.parent.chmod(0o777)
    capsys.readouterr()
    native.library()
    assert "Building the native kernel" in capsys.readouterr().err
    assert fresh_cache.parent.stat().st_mode & 0o022 == 0
    native.library.cache_clear()
    native.library()
    assert capsys.readouterr().err == ""  # and kept


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users of POSIX systems")
def test_the_cache_of_another_user_is_left_alone(monkeypatch, tmp_path):
    (tmp_path / private.NAME).mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(private.NotPrivate, match="belongs to another user"):
        private.private_folder("XDG_CACHE_HOME", ".cache")


def test_a_user_without_a_home_has_a_cache_among_temporary_files(monkeypatch, tmp_path):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = private.private_folder("XDG_CACHE_HOME", ".cache")
    assert folder.is_relative_to(tmp_path)
    assert folder.parent.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700


def test_a_compiler_that_fails_says_so(monkeypatch, tmp_path):
    native.library.cache_clear()
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(native.NativeUnavailable, match="no such flag"):
        native.library()
    native.library.cache_clear()
