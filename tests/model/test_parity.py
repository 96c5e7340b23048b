"""Every intermediate, cost, gradient and update against numbers of the original implementation.

parity/*.npz were computed by the original (TensorFlow 1): nine configurations, two kinds.
"""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lfads_lightning import interop
from lfads_lightning.config import Recurrence
from lfads_lightning.model import recurrences
from lfads_lightning.model.loss import LossTerms, compute_loss, trial_terms
from lfads_lightning.model.names import variable_blocks
from lfads_lightning.model.records import LFADSOutput, Noise
from lfads_lightning.training.optimizer import TFAdam
from lfads_lightning.training.schedules import ramp

CASES = sorted((Path(__file__).parent / "parity").glob("*.npz"))
TRAIN_CASES = [p for p in CASES if p.stem.endswith("__train")]


def on_every_body(cases):
    """Parametrize by case and body; the Triton kernels run in its interpreter here, slowly."""
    interpreted = importlib.util.find_spec("triton") and os.environ.get("TRITON_INTERPRET") == "1"
    absent = pytest.mark.skipif(not interpreted, reason="no Triton, or a GPU: test_triton.py")
    marks = {Recurrence.triton: [absent, pytest.mark.slow]}
    return pytest.mark.parametrize(
        ("path", "recurrence"),
        [
            pytest.param(path, body, id=f"{body.name}-{path.stem}", marks=marks.get(body, []))
            # auto: the native one, where it can be built
            for body in (Recurrence.reference, Recurrence.auto, Recurrence.triton)
            for path in cases
        ],
    )


def close(ours, theirs, tolerance):
    """Compare to ``tolerance`` times the array's own scale (at least 1)."""
    theirs = np.asarray(theirs)
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    assert ours.shape == theirs.shape
    atol = tolerance * max(1.0, float(np.abs(theirs).max(initial=0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


class Case:
    """One fixture file and the model built from it through the public importer."""

    def __init__(self, path, recurrence):
        self.arrays = dict(np.load(path))
        self.hps = json.loads(str(self.arrays["hps"]))
        variables = {k[3:]: v for k, v in self.arrays.items() if k.startswith("w0/")}
        self.trained = interop.from_original(variables, self.hps)
        self.trained.model.passes = recurrences.choose(recurrence)
        self.model, self.loss = self.trained.model, self.trained.config.loss
        self.use_means = self.hps["kind"] == "posterior_push_mean"
        self.sessions = self.hps["dataset_names"]

    def run(self, prefix, session, first_trial):
        """Return batch, forward pass and loss with the noise recorded under ``prefix``."""
        recorded = {
            k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)
        }
        rows = slice(first_trial, first_trial + 4)
        data = torch.from_numpy(self.arrays[f"data/{session}"][rows])
        ext = self.arrays.get(f"train_ext_input/{session}")
        nothing = np.zeros((4, data.shape[1], 0), np.float32)
        noise = Noise(
            torch.from_numpy(recorded.get("g0_noise", nothing[:, 0])),
            torch.from_numpy(recorded.get("co_noise", nothing)),
        )
        ext = None if ext is None else torch.from_numpy(ext[rows])
        output = self.model(data, session, ext, noise, use_means=self.use_means)
        # in training the counter was read after the update, everything else before it
        step, cfg = int(recorded["train_step"]) - prefix.startswith("tr"), self.loss
        ramps = (
            ramp(step, cfg.kl_start_step, cfg.kl_increase_steps),
            ramp(step, cfg.l2_start_step, cfg.l2_increase_steps),
        )
        return recorded, data, output, ramps


def check_pass(case, recorded, data, output: LFADSOutput, ramps):
    """Compare every recorded intermediate and cost, and see that none was left out."""
    encoding, states, model = output.encoding, output.states, case.model
    ours = {
        "gen_ics": output.gen_ics,
        "gen_states": states.gen_states,
        "factors": states.factors,
        "output_dist_params": output.output_dist_params,
        "con_states": states.con_states,
        "co_mean": states.co_means,
        "co_logvar": states.co_logvars,
        "u": states.co_means if case.use_means else states.co_samples,
        "ic_enc_fwd": encoding.ic_enc_fwd,
        "ic_enc_rev": encoding.ic_enc_rev,
        "ci_enc_fwd": encoding.ci_enc_fwd,
        "ci_enc_rev": encoding.ci_enc_rev,
        "g0_mean": encoding.ic_mean,
        "g0_logvar": encoding.ic_logvar,
    }
    if encoding.ic_mean is not None:
        ours["g0_prior_mean"] = model.ic_prior.mean.expand_as(encoding.ic_mean)
        ours["g0_prior_logvar"] = model.ic_prior.logvar().expand_as(encoding.ic_mean)
    terms = compute_loss(model, output, data, case.loss, *ramps)
    trials = trial_terms(model, output, data, case.loss, *ramps)
    log_weights = -trials.recon - trials.kl_ic - trials.kl_co
    ours |= {
        "recon": terms.recon,
        "kl": terms.kl_ic + terms.kl_co,
        "l2": terms.l2,
        "corr": terms.corr,
        "cost": terms.total,
        "kl_weight": ramps[0],
        "l2_weight": ramps[1],
        "nll_vae": terms.recon + terms.kl_ic + terms.kl_co,
        "nll_iwae": -(log_weights.logsumexp(0) - np.log(4)),
    }
    inputs = {"g0_noise", "co_noise", "train_step"}
    compared = {k for k in recorded if ":" not in k and k not in inputs | {"gnorm"}}
    for name in sorted(compared):
        close(ours[name], recorded[name], 1e-5)
    assert {"gen_states", "cost", "output_dist_params"} <= compared
    return terms


@on_every_body(CASES)
def test_intermediates_and_costs_equal_the_original(path, recurrence):
    case = Case(path, recurrence)
    for session in case.sessions:
        check_pass(case, *case.run(f"fwd/{session}/", session, 0))


@on_every_body(TRAIN_CASES)
def test_gradients_and_four_updates_equal_the_original(path, recurrence):
    case = Case(path, recurrence)
    model = case.model
    trainable = [p for p in model.parameters() if p.requires_grad]
    blocks = variable_blocks(model)
    optimizer = TFAdam(trainable, lr=case.hps["learning_rate_init"])
    for k in range(4):
        session = case.sessions[k % len(case.sessions)]
        run = case.run(f"tr{k}/", session, k)
        recorded = run[0]
        terms: LossTerms = check_pass(case, *run)
        optimizer.zero_grad()
        terms.total.backward()
        for p in trainable:  # the original moves the absent session's weights, by momentum
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        norm = torch.nn.utils.clip_grad_norm_(trainable, case.hps["max_grad_norm"])
        np.testing.assert_allclose(norm, recorded["gnorm"], rtol=1e-4)
        named = {k.split(":", 1)[1][6:-2]: v for k, v in recorded.items() if k.startswith("grad:")}
        assert {n for n, parts in blocks.items() if parts[0].requires_grad} == set(named)
        for name, theirs in named.items():
            grad = np.concatenate([p.grad.numpy() for p in blocks[name]]).reshape(theirs.shape)
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(grad, theirs, rtol=0, atol=1e-4 * scale + 1e-7)
        optimizer.step()
        for name, theirs in recorded.items():
            if name.startswith("w:"):
                parts = blocks[name[8:-2]]
                weight = torch.cat([p.detach() for p in parts]).reshape(theirs.shape)
                close(weight, theirs, 1e-5)
