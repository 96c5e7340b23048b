"""Scores of a trained model and of simple methods, in one table."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lfads_lightning import metrics
from lfads_lightning.commands import listed, nearest
from lfads_lightning.config import LFADSError, OutputDist
from lfads_lightning.data.kinds import has_condition
from lfads_lightning.data.missing import inside
from lfads_lightning.data.scored import fewer
from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.evaluation.baselines import Given, Guess, at_hidden, baselines
from lfads_lightning.evaluation.densities import log_density
from lfads_lightning.evaluation.table import (
    BEST_SMOOTHING,
    LFADS,
    MEANS,
    NOTES,
    TRUTH,
    EvaluationTable,
    Part,
    Rows,
)
from lfads_lightning.inference.copying import MOST_TRIALS, Gains, parts_to_hide, predict_hidden
from lfads_lightning.inference.posterior import Averages, Posterior, judged, judged_rates, push_mean
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.model.visibility import held_in

MOST_FITTED = 2**22  # entries of the training trials that methods and read-outs learn from
MOST_TRIALS_FITTED = 1000  # training trials that they learn from
MOST_HIDDEN = 2000  # trials, over all sessions, to infer with a part of their entries hidden
FEW_TRIALS = 20
# metrics that need rates only, no read-out: those for posterior means and true rates
_OF_RATES = ("co_bps", "fp_bps", "bits_per_spike", "psth_r2", "rate_r2", "rate_r2_pooled")

_OF_COUNTS = " or ".join(d.name for d in OutputDist if d.is_counts)
_OF_REALS = " or ".join(d.name for d in OutputDist if not d.is_counts)
NEEDS = {
    "co_bps": "held-out neurons: train with data.held_out_neurons=0.25",
    "few_shot_co_bps": "held-out neurons: train with data.held_out_neurons=0.25",
    "fp_bps": "forward bins: train with data.forward_steps=N",
    "behaviour_r2": "train_behaviour and valid_behaviour in the session",
    "behaviour_r2_factors": "train_behaviour and valid_behaviour in the session",
    "psth_r2": "train_condition and valid_condition in the session",
    "rate_r2": "true rates: train_truth, valid_truth in the session",
    "rate_r2_pooled": "true rates: train_truth, valid_truth in the session",
    "bits_per_spike": f"counts (model.output_dist={_OF_COUNTS})",
    "hidden_bits_per_spike": f"counts (model.output_dist={_OF_COUNTS})",
    "hidden_r2": f"real values (model.output_dist={_OF_REALS})",
    "hidden_nats": f"real values (model.output_dist={_OF_REALS})",
}


class Scored(NamedTuple):
    """The scores of one split of a session, and what they were computed from.

    Attributes:
        part: the part of the table.
        posterior: posterior of the scored trials.
        gains: gains on entries hidden from the model and on the rest; None if not asked for, or if
            the data are not counts.
    """

    part: Part
    posterior: Posterior
    gains: Gains | None


def evaluate(
    trained: TrainedModel,
    sessions: Sequence[Session],
    *,
    split: str | None = None,
    lag_bins: int = 0,
    only: Collection[str] | None = None,
) -> EvaluationTable:
    """Score a model and simple methods on the same trials.

    The model's rates are averages over ``sampling.num_score_samples`` posterior samples.

    Args:
        trained: the model.
        sessions: data that fit it; the simple methods learn from their training trials.
        split: train or valid; by default valid, if there is one.
        lag_bins: behaviour of bin t + lag is decoded from the rates of bin t.
        only: names of metrics to compute, from ``NOTES``; by default all that the data allow.

    Raises:
        LFADSError: the data do not fit the model, or lack something that a requested metric needs.
    """
    for name in only or ():
        if name not in NOTES:
            raise LFADSError(
                f"metrics: no metric is named {name!r}{nearest(name, NOTES)}; there are "
                f"{listed(NOTES, len(NOTES))}"
            )
    parts = []
    for session in (s.trimmed() for s in trained.fitting(list(sessions))):
        name = split or ("train" if session.valid is None else "valid")
        if name not in session.splits:
            raise LFADSError(f"{session.source}: has no {name}_data to score; it has "
                             f"{listed(session.splits)}")  # fmt: skip
        if abs(lag_bins) >= session.n_bins:
            raise LFADSError(
                f"{session.source}: lag_bins={lag_bins} in trials of {session.n_bins} bins; "
                "give fewer"
            )
        parts.append(score(trained, session, name, lag_bins, only, 1 / len(sessions)).part)
    return EvaluationTable(parts)


def score(
    trained: TrainedModel,
    session: Session,
    split: str,
    lag_bins: int = 0,
    only: Collection[str] | None = None,
    effort: float = 1.0,
) -> Scored:
    """Score one split of a session, under the model's name for it.

    The arguments are those of :func:`evaluate`; ``effort`` is the share of the bounds on fitted
    data that one of several sessions gets.
    """
    return _Scorer(trained, session, split, lag_bins, only, effort).scored()


def hidden_score(trained: TrainedModel, session: Session, split: str) -> float:
    """Return only a model's score on hidden entries: bits per spike, or R2 of real values.

    Args:
        trained: the model.
        session: the session, under the model's name for it.
        split: train or valid.

    Raises:
        LFADSError: there are no spikes to score.
    """
    return _Scorer(trained, session, split, 0, None, 1.0).hidden_score()


class _Scorer:
    """Scores one split of one session."""

    def __init__(
        self,
        trained: TrainedModel,
        session: Session,
        split: str,
        lag_bins: int,
        only: Collection[str] | None,
        effort: float,
    ) -> None:
        self.trained, self.session, self.split_name = trained, session, split
        self.lag_bins, self.only, self.effort = lag_bins, only, effort
        most = min(MOST_FITTED, MOST_TRIALS_FITTED * session.train.data[0].size)
        self.train, self.test = fewer(session.train, most), session.splits[split]
        spec = trained.sessions[session.name]
        self.held_out, self.forward = list(spec.held_out), spec.forward_steps
        self.noise = trained.model.noise_model
        self.is_counts = self.noise.is_counts
        self.n_seen = session.n_bins - self.forward
        # (E, T, D), NaN where entries are missing and, if trials have unequal lengths, in the
        # forward bins of each trial
        self.train_seen, self.test_seen = (self._shown(s) for s in (self.train, self.test))
        self.held_in = held_in(spec)
        self.n_few = min(FEW_TRIALS, max(len(self.train.data) // 2, 1))
        has_labels = self.train.condition is not None and self.test.condition is not None
        self.metrics: dict[str, tuple[bool, Callable[[Guess], float | None]]] = {
            "co_bps": (self.is_counts and bool(self.held_out), self._co_bps),
            "few_shot_co_bps": (self.is_counts and bool(self.held_out), self._few_shot),
            "fp_bps": (self.is_counts and self.forward > 0, self._fp_bps),
            "hidden_bits_per_spike": (self.is_counts, self._hidden),
            "hidden_r2": (not self.is_counts, self._hidden),
            "hidden_nats": (not self.is_counts, self._hidden_nats),
            "bits_per_spike": (self.is_counts, self._bits),
            "behaviour_r2": (self._has_behaviour(), self._behaviour),
            "behaviour_r2_factors": (self._has_behaviour(), self._behaviour_of_factors),
            "psth_r2": (has_labels, self._psth),
            "rate_r2": (self.test.truth is not None, lambda g: self._rate_r2(g)[0]),
            "rate_r2_pooled": (self.test.truth is not None, lambda g: self._rate_r2(g)[1]),
            "effective_dim": (True, self._dimension),
        }

    def _shown(self, split: Split) -> np.ndarray:
        if split.lengths is None:
            return split.known
        return np.where(self._bins(split)[..., None], split.known, np.float32(np.nan))

    def _bins(self, split: Split) -> np.ndarray:
        """Return which bins (E, T) of each trial are seen."""
        lengths = np.full(len(split.data), self.session.n_bins)
        lengths = lengths if split.lengths is None else split.lengths
        return inside(lengths - self.forward, self.session.n_bins)

    def _has_behaviour(self) -> bool:
        return self.train.behaviour is not None and self.test.behaviour is not None

    def scored(self) -> Scored:
        """Return the scores of all methods."""
        for name in self.only or ():
            if not self.metrics[name][0]:
                raise LFADSError(f"{self.session.source}: {name} needs {NEEDS[name]}")
        asked = [n for n, (possible, _) in self.metrics.items()
                 if possible and (self.only is None or n in self.only)]  # fmt: skip
        hides = any(name.startswith("hidden") for name in asked)
        most = min(int(MOST_HIDDEN * self.effort), MOST_TRIALS)
        self.parts = parts_to_hide(self.test.data.shape, most) if hides else []
        rows: Rows = {}
        about = {}
        for guess in self._guesses():
            named = [n for n in asked if guess.name not in (MEANS, TRUTH) or n in _OF_RATES
                     or (guess.name == TRUTH and n.startswith("hidden"))]  # fmt: skip
            values = {name: self.metrics[name][1](guess) for name in named}
            rows[guess.name] = {n: float(v) for n, v in values.items() if v is not None}
            about[guess.name] = guess.about
        if truth_scores := {"rate_r2", "rate_r2_pooled"} & set(asked):
            rows[BEST_SMOOTHING], about[BEST_SMOOTHING] = self._best_smoothing(truth_scores)
        part = Part(self.session.name, self.split_name, rows, about, self._data())
        return Scored(part, self.posterior, self.gains)

    def hidden_score(self) -> float:
        """Return the model's score on hidden entries."""
        run, name = self.trained.evaluation(), self.session.name
        self.parts = parts_to_hide(self.test.data.shape, MOST_TRIALS)
        hidden = predict_hidden(run, name, self.test, self.parts).rates
        found = self._hidden(Guess(LFADS, hidden, hidden, hidden))
        if found is None or not math.isfinite(found):
            raise LFADSError(f"{self.session.source}: there are no spikes to score")
        return float(found)

    def _guesses(self) -> Iterator[Guess]:
        given = Given(
            self.train.known,
            self.test.known,
            self.held_out,
            self.forward,
            self.train.condition,
            self.test.condition,
            self.trained.config.model.factors_dim,
            self.is_counts,
            self.parts,
            self.effort,
            None if self.session.equal_trials else (self.train_seen, self.test_seen),
        )
        yield self._lfads()  # one guess at a time: each holds the rates of all entries
        run = self.trained.evaluation()
        if run.num_samples and run.is_random:
            means = push_mean(run, self.session.name, self.test)
            yield Guess(MEANS, means.rates, means.rates, about="posterior means, one pass")
        yield from baselines(given)
        if self.test.truth is not None:
            truth = self.test.truth / self.session.conversion_factor
            yield Guess(TRUTH, truth, truth, hidden=at_hidden(self.parts, truth))

    def _lfads(self) -> Guess:
        run, name = self.trained.evaluation(), self.session.name
        self.posterior = judged(run, name, self.test)
        hidden, self.gains, self.nats = None, None, None
        if self.parts:
            hidden, self.gains, self.nats = predict_hidden(run, name, self.test, self.parts)
        # the rates of the training trials are needed only to fit read-outs
        needed = self.held_out or self._has_behaviour()
        same = self.train is self.test
        train: Posterior | Averages = self.posterior
        if needed and not same:
            run = self.trained.evaluation()  # restarts its random numbers
            train = judged_rates(run, name, self.train)
        n, k = self.n_seen, run.num_samples
        how = f"mean of {k} posterior samples" if k and run.is_random else "posterior means"
        how += f", at most {run.refine_steps} refinement steps" if run.refine_steps else ""
        return Guess(
            LFADS,
            train.rates,
            self.posterior.rates,
            hidden,
            train_latents=train.factors[:, :n],
            test_latents=self.posterior.factors[:, :n],
            about=f"{self.trained.step} updates; {how}",
        )

    def _best_smoothing(self, asked: Collection[str]) -> tuple[dict[str, float], str]:
        counts, truth = (x[:, : self.n_seen] for x in (self.test_seen, self._truth()))
        mean, pooled, sd = metrics.best_smoothing(counts, truth / self.session.conversion_factor)
        found = {"rate_r2": mean, "rate_r2_pooled": pooled}
        about = f"sd {sd:g} bins, the best for these trials; it sees held-out neurons too"
        return {name: value for name, value in found.items() if name in asked}, about

    def _data(self) -> dict[str, float]:
        counts, n = self.test_seen, self.n_seen
        shape = {"n_trials": len(counts), "n_bins": counts.shape[1], "n_neurons": counts.shape[2]}
        data: dict[str, float] = shape | {"n_train_trials": len(self.train.data)}
        if self.is_counts:
            data["n_spikes"] = _spikes(counts[:, :n][..., self.held_in])
            hidden = (_spikes(self._seen(counts[: len(p)])[self._seen(p)]) for p in self.parts)
            data["n_hidden_spikes"] = int(sum(hidden))
        elif self.parts:
            data["n_hidden_values"] = int(sum(self._seen(p).sum() for p in self.parts))
        if self.held_out:
            data["n_held_out_neurons"] = len(self.held_out)
            data["few_shot_trials"] = self.n_few
            data["n_held_out_spikes"] = _spikes(counts[:, :n][..., self.held_out])
        if self.forward:
            data["n_forward_bins"] = self.forward
            data["n_forward_spikes"] = _spikes(self.test.data) - _spikes(counts[:, :n])
        if self._has_behaviour():
            data["lag_bins"] = self.lag_bins
        if self.session.bin_width_s is not None:
            data["bin_width_s"] = self.session.bin_width_s
        return data

    def _seen(self, array: np.ndarray) -> np.ndarray:
        return array[:, : self.n_seen][..., self.held_in]

    def _bits(self, guess: Guess) -> float:
        return metrics.bits_per_spike(self._seen(guess.test), self._seen(self.test_seen))

    def _hidden(self, guess: Guess) -> float | None:
        if guess.hidden is None:
            return None
        guessed, data = self._hidden_values(guess.hidden)
        return (metrics.bits_per_spike if self.is_counts else metrics.mean_r2)(guessed, data)

    def _hidden_nats(self, guess: Guess) -> float | None:
        if guess.hidden is None:
            return None
        guessed, data = self._hidden_values(guess.hidden)
        if guess.name == LFADS:
            # the null model is a constant fitted to the same values, as for bits per spike
            mean = metrics.mean_of(data, (0, 1), empty=math.nan)  # held-out neurons have none
            constant = np.broadcast_to(mean, data.shape)
            self.null_nats = log_density(self.noise, constant, data)
            assert self.nats is not None
            return self.nats - self.null_nats
        return log_density(self.noise, guessed, data) - self.null_nats

    def _hidden_values(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rates and the data of the hidden entries, NaN elsewhere."""
        guessed, data = self._seen(hidden), self._seen(self.test.data[: len(hidden)])
        return guessed, np.where(np.isnan(guessed), np.nan, data)

    def _co_bps(self, guess: Guess) -> float:
        return metrics.co_bps(guess.test, self.test_seen, self.held_out, self.forward)

    def _few_shot(self, guess: Guess) -> float | None:
        if guess.train_latents is None or guess.test_latents is None:
            return None
        n = self.n_seen
        train, test = (x[:, :n][..., self.held_out] for x in (self.train_seen, self.test_seen))
        return metrics.few_shot_co_bps(
            guess.train_latents, train, guess.test_latents, test, self.n_few
        )

    def _fp_bps(self, guess: Guess) -> float | None:
        if self.test.inside is not None:
            later = self.test.inside & ~self._bins(self.test)
            counts = np.where(later[..., None], self.test.known, np.float32(np.nan))
            silent = bool(np.isnan(guess.test[later]).any())
            return None if silent else metrics.bits_per_spike(guess.test, counts)
        if np.isnan(guess.test[:, self.n_seen :]).any():
            return None
        return metrics.fp_bps(guess.test, self.test.known, self.forward)

    def _decoded(self, train: np.ndarray, test: np.ndarray) -> float:
        n = self.n_seen
        behaviour, true = self.train.behaviour, self.test.behaviour
        assert behaviour is not None
        assert true is not None
        if not self.session.equal_trials:
            behaviour, true = (
                np.where(self._bins(s)[..., None], x, np.nan)
                for s, x in ((self.train, behaviour), (self.test, true))
            )
        return metrics.velocity_r2(train, behaviour[:, :n], test, true[:, :n], self.lag_bins).r2

    def _behaviour(self, guess: Guess) -> float:
        train, test = (x[:, : self.n_seen] for x in (guess.train, guess.test))
        known = self._predicted(test)
        return self._decoded(train[..., known], test[..., known])

    def _predicted(self, rates: np.ndarray) -> np.ndarray:
        """Return which columns (D,) of rates (E, T, D) a method predicts."""
        if self.test.lengths is None:
            return np.asarray(~np.isnan(rates).any((0, 1)))
        return np.asarray(~np.isnan(rates[self._bins(self.test)[:, : rates.shape[1]]]).any(0))

    def _behaviour_of_factors(self, guess: Guess) -> float | None:
        if guess.train_latents is None or guess.test_latents is None:
            return None
        return self._decoded(guess.train_latents, guess.test_latents)

    def _psth(self, guess: Guess) -> float | None:
        n, sd = self.n_seen, metrics.psth_sd(self.session.bin_width_s, self.session.n_bins)
        splits = [s for s in self.session.splits.values() if s.condition is not None]
        labels = np.concatenate([s.condition for s in splits if s.condition is not None])
        counts = np.concatenate([self._shown(s) for s in splits])[:, :n]
        has_one, known = has_condition(labels), self._predicted(guess.test[:, :n])
        smoothed = metrics.smooth(counts, sd)
        if metrics.has_missing(counts):
            smoothed = np.where(np.isnan(counts), np.nan, smoothed)
        target = metrics.psth(smoothed[has_one][..., known], labels[has_one])
        assert self.test.condition is not None
        mine = has_condition(self.test.condition)
        if not mine.any():
            return None
        rates = guess.test[:, :n][mine][..., known]
        return metrics.psth_r2(rates, self.test.condition[mine], target)

    def _rate_r2(self, guess: Guess) -> tuple[float, float]:
        rates, n = guess.test[:, : self.n_seen], self.n_seen
        known = self._predicted(rates)
        truth = self._truth()[:, :n] / self.session.conversion_factor
        return metrics.rate_r2(rates[..., known], truth[..., known])

    def _truth(self) -> np.ndarray:
        """Return the true rates (E, T, D), NaN in the unseen bins of short trials."""
        assert self.test.truth is not None
        if self.test.lengths is None:
            return self.test.truth
        return np.where(self._bins(self.test)[..., None], self.test.truth, np.nan)

    def _dimension(self, guess: Guess) -> float | None:
        if guess.test_latents is None:
            return None
        return metrics.effective_dimensionality(guess.test_latents)


def _spikes(counts: np.ndarray) -> int:
    """Return the number of spikes in the entries that are not NaN."""
    return int(np.nansum(counts, dtype=np.float64) if counts.dtype.kind == "f" else
               counts.sum(dtype=np.int64))  # fmt: skip
