"""Posterior and prior of a trained model: the three sampling kinds, as functions."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lfads_lightning.config import LFADSError, LossConfig
from lfads_lightning.data.fields import Split
from lfads_lightning.inference import frames, refine
from lfads_lightning.model.distributions import gaussian_log_density, over_bins
from lfads_lightning.model.layers import inside
from lfads_lightning.model.layout import time_major
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.loss import LossTerms, encoded_bins, trial_terms
from lfads_lightning.model.records import NO_DROPOUT, Encoding, LFADSOutput, Noise
from lfads_lightning.model.visibility import WHOLE, Visibility, held_in

TRIALS_AT_ONCE = 128  # encoded together, before their samples are drawn


class Posterior(NamedTuple):
    """What a model infers from trials, as numpy arrays; None for parts that it does not have.

    Rates are expected counts per bin; costs and bounds are in nats per trial.
    """

    rates: np.ndarray  # (E, T, D), mean of the output distribution
    output_dist_params: np.ndarray  # (E, T, P D), see the noise model; Poisson: rates
    factors: np.ndarray  # (E, T, F)
    gen_states: np.ndarray  # (E, T, G)
    gen_ics: np.ndarray  # (E, G), the generator's state before bin 0
    controller_outputs: np.ndarray | None  # (E, T, U), inferred inputs
    # standard deviations over the posterior samples, not of their mean; for push_mean None, except
    # for the inferred inputs, where it is that of their posterior
    output_dist_params_sd: np.ndarray | None
    factors_sd: np.ndarray | None
    controller_outputs_sd: np.ndarray | None
    post_g0_mean: np.ndarray | None  # (E, Z)
    post_g0_logvar: np.ndarray | None  # (E, Z)
    prior_g0_mean: np.ndarray | None  # (E, Z)
    prior_g0_logvar: np.ndarray | None  # (E, Z)
    costs: np.ndarray  # (E,), the training loss at this step
    nll_bound_vaes: np.ndarray  # (E,), recon + KL, without ramps and L2
    nll_bound_iwaes: np.ndarray  # (E,), the original's; NaN for posterior_push_mean
    nll_bound_iwaes_true: np.ndarray  # (E,), Burda et al. 2016, eq. 8; NaN as above
    train_steps: np.ndarray  # (E,), updates that the weights have had

    def to_xarray(self, **labels: Any) -> Any:
        """Return an ``xarray.Dataset``; see :func:`lfads_lightning.inference.frames.to_xarray`."""
        return frames.to_xarray(self, **labels)

    def to_pandas(self, name: str = "rates", **labels: Any) -> Any:
        """Return a table; see :func:`lfads_lightning.inference.frames.to_pandas`."""
        return frames.to_pandas(self, name, **labels)

    def __repr__(self) -> str:
        """Return its sizes; the arrays are seen one by one."""
        return frames.in_short(self)

    def _repr_html_(self) -> str:
        return frames.as_html(self)


class Averages(NamedTuple):
    """The part of a posterior that decoders and scores need: means over its samples."""

    rates: np.ndarray  # (E, T, D), counts per bin
    factors: np.ndarray  # (E, T, F)
    output_dist_params: np.ndarray  # (E, T, P D), parameters of the noise model


class Prior(NamedTuple):
    """Trials drawn from the prior of a model, as numpy arrays."""

    rates: np.ndarray  # (E, T, D)
    output_dist_params: np.ndarray  # (E, T, P D)
    factors: np.ndarray  # (E, T, F)
    gen_states: np.ndarray  # (E, T, G)
    gen_ics: np.ndarray  # (E, G)
    prior_zs_ar_con: np.ndarray | None  # (E, T, U), the AR(1) paths
    prior_g0_mean: np.ndarray | None  # (E, Z)
    prior_g0_logvar: np.ndarray | None  # (E, Z)

    def to_xarray(self, **labels: Any) -> Any:
        """Return an ``xarray.Dataset``; see :func:`lfads_lightning.inference.frames.to_xarray`."""
        return frames.to_xarray(self, **labels)

    def to_pandas(self, name: str = "rates", **labels: Any) -> Any:
        """Return a table; see :func:`lfads_lightning.inference.frames.to_pandas`."""
        return frames.to_pandas(self, name, **labels)

    def __repr__(self) -> str:
        """Return its sizes; the arrays are seen one by one."""
        return frames.in_short(self)

    def _repr_html_(self) -> str:
        return frames.as_html(self)


class Evaluation(NamedTuple):
    """A model with the settings that are constant during an evaluation."""

    model: LFADS
    loss: LossConfig
    ramps: tuple[float, float]
    step: int
    rng: torch.Generator
    memory_mb: int  # memory budget of one pass
    num_samples: int  # samples averaged for scores and figures; 0 for posterior means
    refine_steps: int = 0  # most steps by which each trial's posterior is refined

    @property
    def is_random(self) -> bool:
        """Whether samples of a trial's posterior differ."""
        return self.model.config.ic_dim > 0 or self.model.config.co_dim > 0


@torch.no_grad()
def push_mean(
    run: Evaluation,
    session: str,
    trials: Split,
    shown: np.ndarray | None = None,
) -> Posterior:
    """Pass posterior means through the generator: one deterministic pass per trial.

    Costs are per trial; the KL of the inferred inputs in them is estimated from one sample.

    Args:
        run: model and constants.
        session: the session whose read-in and read-out to use.
        trials: data (E, T, D), and external inputs (E, T, I) or None; results are NaN beyond the
            end of a shorter trial.
        shown: (E, T, D), factors on the data that the encoders see; None: all are seen unchanged.
    """
    parts: list[dict[str, np.ndarray | None]] = []
    n_bins = trials.data.shape[1]
    size = _rows_at_once(run, trials.data.shape[1:])
    for batch, seen, encoding in _encodings(run, session, trials, shown, size):
        noise = run.model.draw_noise(len(batch), batch.shape[1], run.rng)
        output = run.model.decode(encoding, batch.shape[1], session, noise, use_means=True)
        terms = _terms(run, output, batch, seen.scored)
        nan = torch.full_like(terms.total, math.nan)
        result = _posterior(run, output, terms, nan, nan, output.states.co_means)
        if output.states.co_logvars is not None:
            result["controller_outputs_sd"] = (0.5 * output.states.co_logvars).exp()
        parts.append(_arrays(result, n_bins, seen.ends))
    return _joined(parts, run.model)


@torch.no_grad()
def sample_and_average(
    run: Evaluation,
    session: str,
    trials: Split,
    num_samples: int,
    shown: np.ndarray | None = None,
) -> Posterior:
    """Average ``num_samples`` posterior samples of every trial.

    Trials are encoded once; memory does not grow with the number of samples.

    Args:
        run: model and constants.
        session: the session whose read-in and read-out to use.
        trials: data (E, T, D), and external inputs (E, T, I) or None; results are NaN beyond the
            end of a shorter trial.
        num_samples: samples per trial.
        shown: (E, T, D), factors on the data that the encoders see; None: all are seen unchanged.
    """
    batches = _encoded(run, session, trials, shown)
    n_bins = trials.data.shape[1]
    averages = ((_averaged(b, num_samples), b.ends) for b in batches)
    return _joined([_arrays(found, n_bins, ends) for found, ends in averages], run.model)


class _Encoded(NamedTuple):
    """Encoded trials, to draw samples from."""

    run: Evaluation
    session: str
    data: Tensor  # (n, T, D)
    encoding: Encoding
    samples_at_once: int
    scored: Visibility  # weights of the entries
    ends: Tensor | None  # (n,) number of bins with results; None: T for all

    @torch.no_grad()
    def samples(self, n: int) -> Iterator[tuple[LFADSOutput, Noise]]:
        """Yield n samples of every trial, some at a time: row = sample * n_trials + trial."""
        n_trials, n_bins = self.data.shape[:2]
        for first in range(0, n, self.samples_at_once):
            k = min(self.samples_at_once, n - first)
            noise = self.run.model.draw_noise(n_trials * k, n_bins, self.run.rng)
            yield self.run.model.decode(self.encoding, n_bins, self.session, noise), noise


@torch.no_grad()
def _encoded(
    run: Evaluation,
    session: str,
    trials: Split,
    shown: np.ndarray | None,
) -> Iterator[_Encoded]:
    """Encode trials, a chunk at a time."""
    rows = _rows_at_once(run, trials.data.shape[1:])
    size = min(rows, TRIALS_AT_ONCE)
    for batch, seen, encoding in _encodings(run, session, trials, shown, size):
        yield _Encoded(run, session, batch, encoding, max(rows // len(batch), 1), *seen[1:])


@torch.no_grad()
def _encodings(
    run: Evaluation, session: str, trials: Split, shown: np.ndarray | None, size: int
) -> Iterator[tuple[Tensor, "_Seen", Encoding]]:
    """Yield data, their visibility and the posteriors, which are refined if that is asked for."""
    steps = 0
    if run.refine_steps > 0 and run.is_random:
        shape = trials.data.shape[1:]
        size = min(size, _most(run, refine.values_of_a_trial(run.model.config, *shape)))
        steps = _steps_that_pay(run, session, trials, shown, size)
    for batch, ext, seen in _chunks(run.model, session, trials, shown, size):
        encoding = run.model.encode(batch, session, ext, NO_DROPOUT, seen.encoded)
        if steps:
            weight = refine.seen_weight(run.model, session, batch, seen.encoded)
            problem = refine.Problem(*_alike(run, session, trials), batch, weight, encoding)
            encoding = refine.refined(problem, steps)
        yield batch, seen, encoding


def _steps_that_pay(
    run: Evaluation, session: str, trials: Split, shown: np.ndarray | None, size: int
) -> int:
    """Return the number of refining steps after which held-back entries are predicted best.

    If the model predicts held-out neurons, whole neurons are held back: what improves predictions
    of a seen neuron in other bins can make those of unseen neurons worse.
    """
    trials = trials.rows(slice(refine.MOST_CHECKED))
    n_parts, shape = refine.parts_of(len(trials.data)), trials.data.shape[1:]
    spec = run.model.sessions[session]
    seed, seen_neurons = run.rng.initial_seed(), held_in(spec)
    by_neuron, least_errors, first = None, refine.LEAST_ERRORS, 0
    if spec.held_out and len(seen_neurons) >= refine.N_PARTS:
        by_neuron = refine.neuron_parts(seed, seen_neurons, shape[1])
        least_errors = refine.LEAST_ERRORS_OF_NEURONS
    check = refine.Check(run.refine_steps, least_errors)
    # All parts in one batch: a step with few trials takes nearly as long as one with many.
    for batch, ext, seen in _chunks(run.model, session, trials, shown, max(size // n_parts, 1)):
        numbers = range(first, first + len(batch))
        if by_neuron is None:
            drawn = refine.part_numbers(seed, numbers, shape)
        else:
            drawn = np.broadcast_to(by_neuron, (len(batch), *shape)).copy()
        parts = time_major(torch.from_numpy(drawn[:, : batch.shape[1]]).to(batch.device))
        weight = refine.seen_weight(run.model, session, batch, seen.encoded)
        held_back = [parts == k for k in range(n_parts)]
        views = [
            seen.encoded.also(Visibility(refine.shown_without(part, weight))) for part in held_back
        ]
        encodings = [run.model.encode(batch, session, ext, NO_DROPOUT, view) for view in views]
        back = refine.stacked(held_back)
        seen_by_all = _repeat(weight, n_parts)
        given = (
            _repeat(batch, n_parts),
            seen_by_all * ~back,
            refine.stacked_encodings(encodings),
        )
        problem = refine.Problem(*_alike(run, session, trials), *given)
        check.add(problem, seen_by_all * back)
        first += len(batch)
    return check.steps_that_pay()


def _alike(run: Evaluation, session: str, trials: Split) -> tuple[LFADS, LossConfig, str, int, int]:
    """Return the part of a :class:`refine.Problem` that is the same for all trials."""
    return run.model, run.loss, session, run.rng.initial_seed(), trials.data.shape[1]


def _rows_at_once(run: Evaluation, shape: tuple[int, ...]) -> int:
    """Return how many trials x samples of (T, D) data fit the memory budget in one pass."""
    (n_bins, n_channels), cfg = shape, run.model.config
    states = cfg.gen_dim + cfg.factors_dim + (cfg.con_dim + 4 * cfg.co_dim if cfg.co_dim else 0)
    # states and their deviations; log-rates, rates, their gradient, deviations
    values = n_bins * (2 * states + 4 * n_channels)
    return _most(run, values)


def _most(run: Evaluation, values: int) -> int:
    """Return how many times this many numbers fit the memory budget, at least 1."""
    return max(run.memory_mb * 2**20 // (values * run.model.factor_weight.element_size()), 1)


class _Moments:
    """Running mean of samples, and their sum of squared deviations (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, values: Tensor, n_trials: int, spread: bool) -> None:
        """Add (k * n_trials, ...) values, sample by sample; ``spread`` if the sd is needed."""
        axis = 1 if values.ndim == 3 else 0  # time-major in memory: (T, k * n, ...)
        if axis:
            values = values.transpose(0, 1)
        k = values.shape[axis] // n_trials
        values = values.unflatten(axis, (k, n_trials))
        mean = values.mean(axis)
        total = self.n + k
        if spread:
            deviation = values - mean.unsqueeze(axis)
            squares = deviation.square_().sum(axis)
            if self.mean is not None and self.squares is not None:
                between = (mean - self.mean).square_().mul_(self.n * k / total)
                squares += self.squares + between
            self.squares = squares
        self.mean = mean if self.mean is None else self.mean.lerp_(mean, k / total)
        self.n = total

    def sd(self) -> Tensor | None:
        """Return the standard deviation of the samples; NaN for one sample."""
        if self.squares is None:
            return None
        return _trials_first((self.squares / (self.n - 1 if self.n > 1 else math.nan)).sqrt_())

    def average(self) -> Tensor:
        """Return the mean."""
        assert self.mean is not None
        return _trials_first(self.mean)


def _trials_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1) if x.ndim == 3 else x


def _averaged(trials: _Encoded, n: int) -> dict[str, Tensor | None]:
    run, batch, n_trials = trials.run, trials.data, len(trials.data)
    moments: dict[str, _Moments | None] = {}
    legacy, true = [], []
    for output, noise in trials.samples(n):
        k = len(noise.co) // n_trials
        output = output._replace(encoding=_repeated(trials.encoding, k))
        weight = trials.scored.weight
        scored = Visibility(weight=None if weight is None else _repeat(weight, k))
        terms = _terms(run, output, _repeat(batch, k), scored)
        bound = terms.recon + terms.kl_ic + terms.kl_co
        legacy.append(-bound.view(k, n_trials))
        true.append(_log_weights(run.model, output, noise, terms).view(k, n_trials))
        part = _posterior(run, output, terms, bound, bound, output.states.co_samples)
        for name, value in part.items():
            held = moments.setdefault(name, None if value is None else _Moments())
            if held is not None and value is not None:
                held.add(value, n_trials, spread=f"{name}_sd" in part)
    result = {name: None if held is None else held.average() for name, held in moments.items()}
    for name in [name for name in result if f"{name}_sd" in result]:
        held = moments[name]
        result[f"{name}_sd"] = None if held is None else held.sd()
    for name, weights in (("nll_bound_iwaes", legacy), ("nll_bound_iwaes_true", true)):
        result[name] = -(torch.cat(weights).logsumexp(0) - math.log(n))
    return result


def _repeat(x: Tensor, k: int) -> Tensor:
    """Repeat (n, T, D) as (k n, T, D), time-major in memory as before."""
    return x if k == 1 else x.transpose(0, 1).repeat(1, k, 1).transpose(0, 1)


def _repeated(encoding: Encoding, k: int) -> Encoding:
    """Return an encoding with only the posterior over z and the lengths, repeated per sample."""
    lengths = None if encoding.lengths is None else encoding.lengths.repeat(k)
    nothing = Encoding(*[None] * len(Encoding._fields))._replace(lengths=lengths)
    if encoding.ic_mean is None or encoding.ic_logvar is None:
        return nothing
    mean, logvar = (x.repeat(k, 1) for x in (encoding.ic_mean, encoding.ic_logvar))
    return nothing._replace(ic_mean=mean, ic_logvar=logvar)


def _log_weights(model: LFADS, output: LFADSOutput, noise: Noise, terms: LossTerms) -> Tensor:
    """Return log p(x, z, u) - log q(z, u | x) for each row: Burda et al. 2016, equation 8."""
    log_weight = -terms.recon
    encoding, states = output.encoding, output.states
    if encoding.ic_mean is not None and encoding.ic_logvar is not None:
        z = encoding.ic_mean + (0.5 * encoding.ic_logvar).exp() * noise.ic
        log_p = gaussian_log_density(z, model.ic_prior.mean, model.ic_prior.logvar())
        log_q = gaussian_log_density(z, encoding.ic_mean, encoding.ic_logvar)
        log_weight = log_weight + (log_p - log_q).sum(1)
    if states.co_samples is not None:
        u, mean, logvar = map(
            model.encoded.bins, (states.co_samples, states.co_means, states.co_logvars)
        )
        within = encoded_bins(output, u.shape[1])
        log_q = over_bins(gaussian_log_density(u, mean, logvar), within)
        log_weight = log_weight + model.co_prior.log_density(u, within) - log_q
    return log_weight


def judged(
    run: Evaluation,
    session: str,
    trials: Split,
    shown: np.ndarray | None = None,
) -> Posterior:
    """Infer trials as scores and figures show them: averages over posterior samples.

    With inferred inputs, rates at the posterior means can be far from the posterior mean of the
    rates, which is the model's estimate. Arguments as in :func:`sample_and_average`; the number of
    samples is that of ``run``, 0 for posterior means.
    """
    if run.num_samples == 0 or not run.is_random:
        return push_mean(run, session, trials, shown)
    return sample_and_average(run, session, trials, run.num_samples, shown)


@torch.no_grad()
def judged_rates(
    run: Evaluation,
    session: str,
    trials: Split,
    shown: np.ndarray | None = None,
) -> Averages:
    """Return only rates, factors and parameters of :func:`judged`, which is faster."""
    if run.num_samples == 0 or not run.is_random:
        means = push_mean(run, session, trials, shown)
        return Averages(means.rates, means.factors, means.output_dist_params)
    all_params, factors, n_bins = [], [], trials.data.shape[1]
    for batch in _encoded(run, session, trials, shown):
        means_of_both = _Moments(), _Moments()
        for output, _ in batch.samples(run.num_samples):
            both = output.output_dist_params, output.states.factors
            for held, values in zip(means_of_both, both, strict=True):
                held.add(values, len(batch.data), spread=False)
        params, mean_factors = (
            _with_ends(held.average(), n_bins, batch.ends).cpu().numpy() for held in means_of_both
        )
        all_params.append(params)
        factors.append(mean_factors)
    joint = np.concatenate(all_params)
    return Averages(_rates(joint, run.model), np.concatenate(factors), joint)


@torch.no_grad()
def sampled_rates(
    run: Evaluation,
    session: str,
    trials: Split,
    num_samples: int,
    shown: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield the rates (E, T, D) of one posterior sample of all trials, sample after sample.

    Arguments as in :func:`sample_and_average`. Encodings of all trials are held in memory, so give
    few trials.
    """
    encoded = _encoded(run, session, trials, shown)
    batches, n_bins = [b._replace(samples_at_once=1) for b in encoded], trials.data.shape[1]
    for drawn in zip(*(batch.samples(num_samples) for batch in batches), strict=True):
        params = np.concatenate(
            [
                _with_ends(output.output_dist_params, n_bins, batch.ends).cpu().numpy()
                for batch, (output, _) in zip(batches, drawn, strict=True)
            ]
        )
        yield _rates(params, run.model)


@torch.no_grad()
def prior_sample(
    run: Evaluation, session: str, num_samples: int, n_bins: int, ext_input: np.ndarray | None
) -> Prior:
    """Draw trials from the prior over initial conditions and inferred inputs.

    Args:
        run: model and constants.
        session: the session whose read-out to use.
        num_samples: E, trials to draw.
        n_bins: T.
        ext_input: (E, T, I), needed if external inputs are injected into the generator.

    Raises:
        LFADSError: external inputs are missing, not needed, or misshapen.
    """
    model = run.model
    ext = _prior_ext_input(model, num_samples, n_bins, ext_input)
    noise = model.draw_noise(num_samples, n_bins, run.rng)
    z = mean = logvar = u = None
    if model.config.ic_dim > 0:
        mean = model.ic_prior.mean.expand(num_samples, -1)
        logvar = model.ic_prior.logvar().expand(num_samples, -1)
        z = mean + (0.5 * logvar).exp() * noise.ic
    if model.config.co_dim > 0:
        u = model.co_prior.sample(noise.co)
    gen_ics, states, params = model.generate(z, u, session, ext, n_bins)
    arrays = (params, states.factors, states.gen_states, gen_ics, u, mean, logvar)
    # a model without any random part draws the same trial every time
    whole = [
        None if a is None else a.expand(num_samples, *a.shape[1:]).cpu().numpy() for a in arrays
    ]
    return Prior(_rates(whole[0], model), *whole)  # type: ignore[arg-type]


def _prior_ext_input(
    model: LFADS, n_trials: int, n_bins: int, ext_input: np.ndarray | None
) -> Tensor | None:
    if not (model.config.inject_ext_input_to_gen and model.ext_input_dim > 0):
        if ext_input is not None:
            raise LFADSError(
                "prior_sample: ext_input is given, but external inputs do not reach this model's "
                "generator (inject_ext_input_to_gen is false)"
            )
        return None
    expected = (n_trials, n_bins, model.ext_input_dim)
    if ext_input is None or np.shape(ext_input) != expected:
        found = "missing" if ext_input is None else f"of shape {np.shape(ext_input)}"
        raise LFADSError(
            f"prior_sample: ext_input is {found}; external inputs are injected into this model's "
            f"generator, so give an array of shape {expected} (trials, bins, inputs)"
        )
    return torch.as_tensor(np.asarray(ext_input)).to(model.factor_weight)


class _Seen(NamedTuple):
    """What of the trials is seen and scored."""

    encoded: Visibility
    scored: Visibility  # costs count all entries with data, even if they are hidden
    ends: Tensor | None  # (B,) number of bins with results; None: T for all


def _chunks(
    model: LFADS, session: str, trials: Split, shown: np.ndarray | None, size: int
) -> Iterator[tuple[Tensor, Tensor | None, _Seen]]:
    """Yield data, external inputs and visibility, ``size`` trials at a time.

    A chunk has no bins beyond its longest trial.
    """
    like, n_trials = model.factor_weight, len(trials.data)
    starts = range(0, n_trials, size)
    # a progress bar on terminals only, and only if there are several chunks
    for i in tqdm(starts, unit="chunk", leave=False, disable=None if len(starts) > 1 else True):
        some = trials.rows(slice(i, i + size))
        n_bins = some.data.shape[1]
        if some.lengths is not None:
            n_bins = int(some.lengths.max())
            some = some.trimmed(n_bins)
        counts, there = some.data, some.present
        if counts.dtype != np.uint8:
            counts = counts.astype(np.float32)
        batch = time_major(torch.from_numpy(counts).to(like.device))
        ext = None if some.ext_input is None else torch.as_tensor(some.ext_input).to(like)
        encoded = scored = WHOLE
        lengths = None if some.lengths is None else torch.as_tensor(some.lengths).to(like.device)
        ends = lengths
        if lengths is not None and bool((lengths == n_bins).all()):
            lengths = None
        if there is not None:
            present = time_major(torch.tensor(there, device=like.device))
            scored = model.encoded.missing(session, present, lengths, like)
        if shown is not None:
            part = torch.as_tensor(shown[i : i + size, :n_bins]).to(like)
            encoded = Visibility(time_major(part))
        yield batch, ext, _Seen(encoded.also(scored), scored, ends)


def _arrays(
    part: dict[str, Tensor | None], n_bins: int, lengths: Tensor | None
) -> dict[str, np.ndarray | None]:
    """Return arrays with T bins, NaN beyond the ends of trials."""
    return {
        name: None if value is None else _with_ends(value, n_bins, lengths).cpu().numpy()
        for name, value in part.items()
    }


def _with_ends(x: Tensor, n_bins: int, lengths: Tensor | None) -> Tensor:
    if lengths is None or x.ndim < 3:
        return x
    gone = ~inside(lengths, x.shape[1])[..., None]
    more = (*x.shape[:1], n_bins - x.shape[1], *x.shape[2:])
    return torch.cat([x.masked_fill(gone, math.nan), x.new_full(more, math.nan)], dim=1)


def _terms(run: Evaluation, output: LFADSOutput, data: Tensor, scored: Visibility) -> LossTerms:
    return trial_terms(run.model, output, data, run.loss, *run.ramps, scored)


def _posterior(
    run: Evaluation,
    output: LFADSOutput,
    terms: LossTerms,
    iwae: Tensor,
    iwae_true: Tensor,
    inputs: Tensor | None,
) -> dict[str, Tensor | None]:
    encoding = output.encoding
    prior_mean = prior_logvar = None
    if encoding.ic_mean is not None:
        prior_mean = run.model.ic_prior.mean.expand_as(encoding.ic_mean)
        prior_logvar = run.model.ic_prior.logvar().expand_as(encoding.ic_mean)
    return {
        "output_dist_params": output.output_dist_params,
        "factors": output.states.factors,
        "gen_states": output.states.gen_states,
        "gen_ics": output.gen_ics,
        "controller_outputs": inputs,
        "output_dist_params_sd": None,
        "factors_sd": None,
        "controller_outputs_sd": None,
        "post_g0_mean": encoding.ic_mean,
        "post_g0_logvar": encoding.ic_logvar,
        "prior_g0_mean": prior_mean,
        "prior_g0_logvar": prior_logvar,
        "costs": terms.total,
        "nll_bound_vaes": terms.recon + terms.kl_ic + terms.kl_co,
        "nll_bound_iwaes": iwae,
        "nll_bound_iwaes_true": iwae_true,
        "train_steps": torch.full_like(terms.total, run.step),
    }


def _joined(parts: list[dict[str, np.ndarray | None]], model: LFADS) -> Posterior:
    arrays: dict[str, Any] = {
        name: None if first is None else np.concatenate([p[name] for p in parts])
        for name, first in parts[0].items()
    }
    arrays["train_steps"] = np.rint(arrays["train_steps"]).astype(np.int64)
    return Posterior(rates=_rates(arrays["output_dist_params"], model), **arrays)


def _rates(params: np.ndarray | None, model: LFADS) -> np.ndarray:
    assert params is not None
    rates: np.ndarray = model.noise_model.mean(params)
    return rates
