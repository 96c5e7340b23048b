"""Refining each trial's posterior: gradient steps on its own bound, the generator frozen.

The encoders compute the posterior of a trial in one pass, which is fast, but not the best posterior
under the model (the amortisation gap; Kim et al. 2018, arXiv:1802.02550). Starting from it, Adam
takes steps on each trial's own variables, maximising the bound that the model was trained on, over
the entries that the encoders see. These variables are the mean and the log-variance of the initial
condition, and the encodings that drive the controller.

A higher bound on the seen entries need not improve predictions of the others: a model that overfits
its training data follows the seen entries too closely. So first each fifth of the seen entries is
held back in turn, and the number of steps that predicts these best is the one taken. If the model
has held-out neurons, whole neurons are held back instead of entries: a refined posterior can
predict the other bins of seen neurons better, and unseen neurons worse.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lfads_lightning.config import LossConfig, ModelConfig
from lfads_lightning.model.layout import time_major
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import inferred_input_kl, initial_condition_kl, reconstruction
from lfads_lightning.model.records import Encoding, LFADSOutput, Noise
from lfads_lightning.model.visibility import Visibility

RATE, BETAS, EPSILON = 0.03, (0.9, 0.999), 1e-4  # of Adam
EVERY = 10  # steps between two evaluations of a trial's bound
PATIENCE = 3  # evaluations without a better bound after which a trial stops
PAIRS_PER_STEP, PAIRS_PER_LOOK = 1, 4  # antithetic pairs of samples: a noise and its negative
N_PARTS = 5  # parts of the entries; if there are few trials, each part is held back in turn
MOST_CHECKED = 400  # trials, over all parts, that are refined to find how many steps help
LEAST_ERRORS = 1.0  # standard errors by which held-back entries must gain
# There are fewer neurons than entries: on a simulated recording, held-back neurons gained 1.3
# standard errors, and held-out neurons lost .25 bits per spike.
LEAST_ERRORS_OF_NEURONS = 1.5


class Problem(NamedTuple):
    """Trials whose posteriors are refined, with the settings that they share."""

    model: LFADS
    loss: LossConfig  # weights of the divergences
    session: str
    seed: int  # seed of the noise, which is the same for every trial
    n_bins: int  # bins that noise is drawn for: T of all trials; the chunk may have fewer
    data: Tensor  # (B, T, D)
    weight: Tensor  # (B, T, D), 0 where an entry is not part of the bound
    encoding: Encoding  # the starting point

    def of(self, trials: Tensor) -> "Problem":
        """Return the problem of some trials, given by their numbers."""
        encoding = Encoding(*(None if x is None else _rows(x, trials) for x in self.encoding))
        data, weight = (_rows(x, trials) for x in (self.data, self.weight))
        return self._replace(data=data, weight=weight, encoding=encoding)


def seen_weight(model: LFADS, session: str, data: Tensor, seen: Visibility) -> Tensor:
    """Return 1 for each entry (B, T, D) that the encoders see and that is scored, else 0.

    Args:
        model: the model.
        session: name of the session.
        data: (B, T, D).
        seen: what the encoders are shown.
    """
    like, n_bins = model.factor_weight, data.shape[1]
    weight = time_major(torch.ones(data.shape, dtype=like.dtype, device=like.device))
    if seen.shown is not None:
        weight = weight * (seen.shown > 0)
    if seen.weight is not None:
        weight = weight * seen.weight
    unseen = model.encoded.unseen(session, n_bins, like.device, seen.lengths)
    if unseen is not None:
        weight = weight.masked_fill(unseen, 0)
    return weight


def refined(problem: Problem, steps: int) -> Encoding:
    """Return the encoding with each trial's best posterior within ``steps`` steps."""
    encoding = problem.encoding
    for best in climb(problem, steps):
        encoding = best
    return encoding


def climb(problem: Problem, steps: int) -> Iterator[Encoding]:
    """Take steps; at every evaluation yield the encoding with each trial's best posterior so far.

    The bound is evaluated with noise that is not used for steps. A trial whose bound has not risen
    in three evaluations stops; once all have stopped, nothing more is yielded.
    """
    kept = free = free_parts(problem)
    if not free:
        return
    whole = problem.encoding
    rng = torch.Generator(problem.data.device).manual_seed(problem.seed)
    judge = _noise(problem, PAIRS_PER_LOOK, rng)
    best = _cost(problem, free, judge)
    climbing = torch.arange(len(best), device=best.device)  # numbers of the trials
    since = torch.zeros_like(climbing)  # evaluations since each trial's bound has risen
    adam = _Adam(free)
    for done in range(0, steps, EVERY):
        for _ in range(min(EVERY, steps - done)):
            noise = _noise(problem, PAIRS_PER_STEP, rng)
            free = adam.step(free, _gradients(problem, free, noise))
            free = _within(free, problem.model.config)
        cost = _cost(problem, free, judge)
        rose = cost < best[climbing]  # False for NaN
        best[climbing[rose]] = cost[rose]
        kept = {name: x.index_copy(0, climbing[rose], free[name][rose]) for name, x in kept.items()}
        yield whole._replace(**kept)
        since = torch.where(rose, 0, since + 1)
        still = torch.nonzero(since < PATIENCE).flatten()
        if len(still) == 0:
            return
        if len(still) < len(since):
            problem, climbing, since = problem.of(still), climbing[still], since[still]
            free = {name: _rows(x, still) for name, x in free.items()}
            adam.keep(still)


def free_parts(problem: Problem) -> dict[str, Tensor]:
    """Return the variables to refine, by name.

    Gradients carry information from later bins. So a causal controller's encodings are not refined,
    nor is an initial condition that is inferred from the first bins only.
    """
    config, names = problem.model.config, ["ic_mean", "ic_logvar", "con_input"]
    if config.do_causal_controller:
        names = names[:2] if config.num_steps_for_gen_ic >= problem.n_bins else []
    return {name: x for name in names if (x := getattr(problem.encoding, name)) is not None}


class Check:
    """How much held-back entries gain by refining, as a function of the number of steps.

    Args:
        steps: the largest number of steps.
        least_errors: standard errors by which held-back entries must gain.
    """

    def __init__(self, steps: int, least_errors: float = LEAST_ERRORS) -> None:
        self.steps, self.least_errors = steps, least_errors
        self.sums, self.squares = np.zeros((2, math.ceil(steps / EVERY)))  # nats, per evaluation

    def add(self, problem: Problem, held_back: Tensor) -> None:
        """Refine trials, and score entries that were held back from refining.

        Args:
            problem: the trials.
            held_back: (B, T, D), the weight of each entry.
        """
        before, gain = _predicted(problem, problem.encoding, held_back), None
        looks = climb(problem, self.steps)
        for k in range(len(self.sums)):
            if (encoding := next(looks, None)) is not None:
                gain = (before - _predicted(problem, encoding, held_back)).double()
            if gain is not None:
                self.sums[k] += float(gain.sum())
                self.squares[k] += float(gain.square().sum())

    def steps_that_pay(self) -> int:
        """Return the number of steps with the largest gain; 0 if the gain may be chance."""
        pays = self.sums > self.least_errors * np.sqrt(self.squares)
        if not pays.any():
            return 0
        return min(EVERY * (int(np.where(pays, self.sums, -np.inf).argmax()) + 1), self.steps)


def parts_of(n_trials: int) -> int:
    """Return how many parts of the entries are held back in turn, for a number of trials."""
    return min(max(MOST_CHECKED // n_trials, 1), N_PARTS)


def part_numbers(seed: int, trials: range, shape: tuple[int, int]) -> np.ndarray:
    """Return the part of each entry, (B, T, D); it does not depend on the other trials."""
    draws = (np.random.default_rng([seed, i]) for i in trials)
    return np.stack([rng.integers(N_PARTS, size=shape, dtype=np.uint8) for rng in draws])


def neuron_parts(seed: int, seen: Sequence[int], n_neurons: int) -> np.ndarray:
    """Return the part that each neuron belongs to, (D,); the seen neurons are split evenly.

    >>> np.bincount(neuron_parts(0, range(10), 10)).tolist()
    [2, 2, 2, 2, 2]
    """
    parts = np.full(n_neurons, N_PARTS, np.uint8)  # unseen neurons belong to no part
    parts[np.random.default_rng(seed).permutation(seen)] = np.arange(len(seen)) % N_PARTS
    return parts


def shown_without(part: Tensor, like: Tensor) -> Tensor:
    """Return the factors that hide a part (bool) of the data from the encoders."""
    return (~part).to(like.dtype) * (N_PARTS / (N_PARTS - 1))


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate the trials of tensors (B, ...), which stay time-major in memory."""
    if parts[0].ndim < 3:
        return torch.cat(list(parts))
    return torch.cat([x.transpose(0, 1) for x in parts], dim=1).transpose(0, 1)


def stacked_encodings(parts: Sequence[Encoding]) -> Encoding:
    """Concatenate the trials of encodings."""
    of_each = zip(*parts, strict=True)
    return Encoding(*(None if xs[0] is None else stacked(xs) for xs in of_each))


def values_of_a_trial(config: ModelConfig, n_bins: int, n_channels: int) -> int:
    """Return how many numbers are held in memory to refine a trial."""
    states, encodings = config.gen_dim + config.factors_dim, 0
    if config.co_dim > 0:
        states += config.con_dim + 6 * config.co_dim
        encodings = (1 if config.do_causal_controller else 2) * config.ci_enc_dim
    # a step: states, gates and their gradients, rates, data; an evaluation: states and rates of
    # more samples; Adam: current values, two moments, the gradient, the best and the start
    step = 2 * PAIRS_PER_STEP * (8 * states + 8 * n_channels + 2 * encodings)
    look = 2 * PAIRS_PER_LOOK * (states + 5 * n_channels)
    return n_bins * (max(step, look) + 8 * encodings)


class _Adam:
    """Adam with a step count per trial."""

    def __init__(self, free: dict[str, Tensor]) -> None:
        self.n = 0
        self.first = {name: torch.zeros_like(x) for name, x in free.items()}
        self.second = {name: torch.zeros_like(x) for name, x in free.items()}

    def step(self, free: dict[str, Tensor], gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        self.n += 1
        (b1, b2), moved = BETAS, {}
        for name, g in gradients.items():
            m, v = self.first[name], self.second[name]
            m.lerp_(g, 1 - b1)
            v.lerp_(g.square(), 1 - b2)
            scale = (v / (1 - b2**self.n)).sqrt_().add_(EPSILON)
            moved[name] = free[name] - RATE / (1 - b1**self.n) * m / scale
        return moved

    def keep(self, trials: Tensor) -> None:
        self.first = {name: _rows(x, trials) for name, x in self.first.items()}
        self.second = {name: _rows(x, trials) for name, x in self.second.items()}


def _within(free: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Keep the variances of initial conditions above their minimum, as the encoder does."""
    if config.ic_post_var_min > 0 and "ic_logvar" in free:
        free["ic_logvar"] = free["ic_logvar"].clamp(min=math.log(config.ic_post_var_min))
    return free


def _noise(problem: Problem, n_pairs: int, rng: torch.Generator) -> Noise:
    """Draw antithetic pairs of noise, (S, Z) and (S, T, U), the same for all trials."""
    drawn = problem.model.draw_noise(n_pairs, problem.n_bins, rng)
    return Noise(*(torch.cat([x, -x]) for x in drawn))


def _decoded(problem: Problem, free: dict[str, Tensor], noise: Noise) -> tuple[LFADSOutput, int]:
    """Return samples of every trial, row = sample * n_trials + trial, and samples per trial."""
    encoding = problem.encoding._replace(**free)
    n_trials, n_bins = problem.data.shape[:2]
    ic = noise.ic.repeat_interleave(n_trials, 0)
    co = noise.co[:, :n_bins].transpose(0, 1).repeat_interleave(n_trials, 1).transpose(0, 1)
    output = problem.model.decode(encoding, n_bins, problem.session, Noise(ic, co))
    return output, len(noise.ic)


def _costs(problem: Problem, free: dict[str, Tensor], noise: Noise) -> Tensor:
    """Return the negative bound of each trial (B,), nats; a mean over samples."""
    output, k = _decoded(problem, free, noise)
    data, weight = (_repeated(x, k) for x in (problem.data, problem.weight))
    recon = reconstruction(problem.model, output, data, Visibility(weight=weight))
    kl_ic = initial_condition_kl(problem.model, output, like=recon[: len(problem.data)])
    if output.encoding.lengths is not None:
        lengths = output.encoding.lengths.repeat(k)
        output = output._replace(encoding=output.encoding._replace(lengths=lengths))
    analytic = problem.loss.do_analytic_kl_co
    kl_co = inferred_input_kl(problem.model, output, analytic, like=recon)
    each = (recon + problem.loss.kl_co_weight * kl_co).unflatten(0, (k, -1)).mean(0)
    return each + problem.loss.kl_ic_weight * kl_ic


@torch.no_grad()
def _cost(problem: Problem, free: dict[str, Tensor], noise: Noise) -> Tensor:
    return _costs(problem, free, noise)


@torch.enable_grad()
def _gradients(problem: Problem, free: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
    leaves = {name: x.detach().requires_grad_() for name, x in free.items()}
    total = _costs(problem, leaves, noise).sum()
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


@torch.no_grad()
def _predicted(problem: Problem, encoding: Encoding, weight: Tensor) -> Tensor:
    """Return -log p of entries (B,), nats, under the mean of the parameters over samples."""
    rng = torch.Generator(problem.data.device).manual_seed(problem.seed)
    noise = _noise(problem, PAIRS_PER_LOOK, rng)
    output, k = _decoded(problem._replace(encoding=encoding), {}, noise)
    params = output.output_dist_params.unflatten(0, (k, -1)).mean(0)
    return problem.model.noise_model.nll_of_params(params, problem.data, weight)


def _repeated(x: Tensor, k: int) -> Tensor:
    """Repeat (n, T, D) as (k n, T, D), time-major in memory."""
    return x.transpose(0, 1).repeat(1, k, 1).transpose(0, 1)


def _rows(x: Tensor, trials: Tensor) -> Tensor:
    """Return some trials of x (B, ...), which stays time-major in memory."""
    if x.ndim < 3:
        return x.index_select(0, trials)
    return x.transpose(0, 1).index_select(1, trials).transpose(0, 1)
