"""Simple methods on the same trials: the rows that LFADS is compared with in a table of scores.

Every method sees what LFADS sees: the neurons that are not held out, in the bins before the forward
bins. It chooses its settings (widths, penalties) on the training trials. A smoothing width is
chosen by how well a bin is predicted from the other bins: otherwise a spike would explain itself.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.data.kinds import has_condition
from lfads_lightning.evaluation.table import CONSTANT
from lfads_lightning.metrics import (
    SMALLEST_RATE,
    Design,
    complete_rows,
    has_missing,
    kernel,
    mean_of,
    smooth,
    smooth_shown,
    varies,
    widths,
)
from lfads_lightning.metrics.readout import every_nth
from lfads_lightning.metrics.smoothing import LEAST_WEIGHT

SHARES = (0.5, 0.7, 0.85, 0.95, 0.99)  # of a local mean; the rest is the neuron's overall mean
ALPHAS = (1e-3, 1e-2, 0.1, 1.0)  # penalties of the read-outs; few trials need strong ones
N_TRIED = 8  # neurons used to choose the width and the penalty of a read-out
# trials used to choose a setting: up to this many entries, within these bounds
MOST_TRIED, FEWEST_TRIALS_TRIED, MOST_TRIALS_TRIED = 2**22, 10, 200
MOST_DECOMPOSED_WHOLE = 150  # neurons; with more, factor analysis computes a part of the SVD

Cost = Callable[[np.ndarray, np.ndarray], float]


class Given(NamedTuple):
    """What a method is given of a session."""

    train: np.ndarray  # (E, T, D), training trials; NaN where entries are missing
    test: np.ndarray  # (E', T, D), scored trials; the method sees only their seen part
    held_out: list[int]  # columns that it must predict
    forward_steps: int  # number of last bins that it must predict
    train_condition: np.ndarray | None  # (E,) labels
    test_condition: np.ndarray | None
    n_factors: int
    is_counts: bool
    # each (E'', T, D) bool: entries of the first E'' test trials that are hidden from the methods,
    # one part at a time, and predicted
    parts: Sequence[np.ndarray] = ()
    effort: float = 1.0  # share of the bounds above that one of several sessions gets
    # if trials have unequal lengths: train and test with NaN in the forward bins of each trial
    seen: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def held_in(self) -> list[int]:
        """The columns of the seen neurons."""
        return np.setdiff1d(np.arange(self.train.shape[2]), self.held_out).tolist()

    def shown(self, channels: list[int]) -> list[np.ndarray]:
        """Return the seen bins of channels: for the training trials, then for the test trials."""
        whole = (self.train, self.test) if self.seen is None else self.seen
        return [x[:, : self.n_seen][..., channels] for x in whole]

    @property
    def n_seen(self) -> int:
        """The number of seen bins."""
        return self.train.shape[1] - self.forward_steps


class Guess(NamedTuple):
    """The predictions of a method."""

    name: str
    train: np.ndarray  # (E, T, D) rates; NaN where it predicts nothing
    test: np.ndarray  # (E', T, D)
    hidden: np.ndarray | None = None  # (E'', T, D), hidden entries from the others; NaN elsewhere
    train_latents: np.ndarray | None = None  # (E, seen bins, n)
    test_latents: np.ndarray | None = None
    about: str = ""


def baselines(given: Given) -> Iterator[Guess]:
    """Yield the guesses: constant rate, PSTH, smoothing and, for counts, factor analysis."""
    yield constant_rate(given)
    yield psth_rates(given)
    smoothed, sd = smoothing(given)
    yield smoothed
    if given.is_counts and len(_moving(given)) > 1:
        yield factor_analysis(given, sd)


def constant_rate(given: Given) -> Guess:
    """Predict each neuron's mean over the training trials."""
    mean = mean_of(given.train, (0, 1))
    train, test = (np.broadcast_to(mean, x.shape) for x in (given.train, given.test))
    return Guess(CONSTANT, train, test, hidden=at_hidden(given.parts, test))


def at_hidden(
    parts: Sequence[np.ndarray], rates: np.ndarray | Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | None:
    """Return the rates of the hidden entries, NaN elsewhere; None if no entry is hidden.

    Args:
        parts: each (E, T, D) bool: the entries that are hidden together.
        rates: (E or more, T, D), from a method that does not look at single trials; or a function
            that returns the rates given the hidden part.
    """
    if not parts:
        return None
    found = np.full(parts[0].shape, np.nan, np.float32)
    for part in parts:
        guess = rates(part) if callable(rates) else rates[: len(part)]
        found[part] = guess[part]
    return found


def psth_rates(given: Given) -> Guess:
    """Predict the smoothed mean of a condition's training trials; the method knows the conditions.

    Without conditions it predicts the mean of all trials; for a trial without a condition, the
    constant rate. The width, and the share of the overall mean, are those that best predict each
    training trial from the others.
    """
    train, mean, cost = given.train, mean_of(given.train, (0, 1)), _cost(given)
    known = given.train_condition is not None and given.test_condition is not None
    labels = given.train_condition if known else np.zeros(len(train), int)
    test_labels = given.test_condition if known else np.zeros(len(given.test), int)
    assert labels is not None
    assert test_labels is not None
    there = np.unique(labels[has_condition(labels)])
    sums = {k: np.nansum(train[labels == k], 0, dtype=np.float64) for k in there}
    n: dict[Any, Any] = {k: int((labels == k).sum()) for k in sums}
    if gaps := has_missing(train):
        n = {k: (~np.isnan(train[labels == k])).sum(0) for k in sums}
    some = _some(train, given.effort)

    def of_others(x: np.ndarray, k: Any) -> np.ndarray:
        # the mean of the other trials of the condition; without any, the overall mean
        if gaps and k in n:
            left = n[k] - ~np.isnan(x)
            return np.where(left > 0, (sums[k] - np.nan_to_num(x)) / np.maximum(left, 1), mean)
        if np.max(n.get(k, 0)) > 1:
            return (sums[k] - x) / (n[k] - 1)
        return np.broadcast_to(mean, x.shape)

    others = np.stack([of_others(x, k) for x, k in zip(train[some], labels[some], strict=True)])
    tried = widths(train.shape[1])
    sd, share = _best(lambda sd: smooth(others, sd), train[some], mean, tried, cost)
    local = {k: np.where(n[k] > 0, sums[k] / np.maximum(n[k], 1), mean) for k in sums}
    means = {k: share * smooth(local[k][None], sd)[0] + (1 - share) * mean for k in sums}
    overall = np.broadcast_to(mean, train.shape[1:])
    guess, test = (
        np.stack([means.get(k, overall) for k in each], dtype=np.float32)
        for each in (labels, test_labels)
    )
    about = f"sd {sd:g} bins" + ("" if known else "; no conditions: the mean of all trials")
    return Guess("PSTH", guess, test, hidden=at_hidden(given.parts, test), about=about)


def smoothing(given: Given) -> tuple[Guess, float]:
    """Smooth the seen neurons, and predict held-out ones from them by Poisson regression.

    Returns:
        The guess, and its width (sd, bins). Forward bins are not predicted.
    """
    held_in, n = given.held_in, given.n_seen
    train, test = given.shown(held_in)
    mean = mean_of(train, (0, 1))
    some = train[_some(train, given.effort)]
    sd, share = _best(lambda sd: _without_own(some, sd), some, mean, widths(n), _cost(given))

    def whole(local: np.ndarray) -> np.ndarray:
        rates = np.full((len(local), *given.train.shape[1:]), np.nan, np.float32)
        rates[np.ix_(range(len(rates)), range(n), held_in)] = share * local + (1 - share) * mean
        return rates

    def from_the_rest(hidden: np.ndarray) -> np.ndarray:
        return whole(smooth_rest(test[: len(hidden)], hidden[:, :n][..., held_in], sd, mean))

    guess, about = [whole(smooth(x, sd)) for x in (train, test)], f"sd {sd:g} bins"
    if given.held_out and given.is_counts:
        counts = given.shown(given.held_out)[0]
        width, alpha = _best_readout(train, counts, n, given.effort)
        x = smooth(train, width)
        design = Design(_within(x, train), counts.shape[-1], given.effort)
        readout = design.fit(counts, alpha)
        for rates, seen in zip(guess, (x, smooth(test, width)), strict=True):
            rates[np.ix_(range(len(rates)), range(n), given.held_out)] = readout.rates(seen)
        about += f"; held-out neurons: sd {width:g} bins, penalty {alpha:g}"
    hidden = at_hidden(given.parts, from_the_rest)
    return Guess("smoothing", guess[0], guess[1], hidden=hidden, about=about), sd


def smooth_rest(x: np.ndarray, hidden: np.ndarray, sd: float, mean: np.ndarray) -> np.ndarray:
    """Smooth the shown entries of x (E, T, D) over time; the mean (D,) where none is nearby."""
    shown = ~hidden
    if has_missing(x):
        shown &= ~np.isnan(x)
        x = np.nan_to_num(x)
    return smooth_shown(x, shown, sd, mean)


def _within(latents: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return latents (E, T, n), NaN in bins in which all of the data (E, T, D) are missing."""
    if not has_missing(data):
        return latents
    return np.where(np.isnan(data).all(2, keepdims=True), np.nan, latents)


def factor_analysis(given: Given, sd: float) -> Guess:
    """Apply factor analysis (scikit-learn) to the smoothed seen neurons; rates from its factors.

    It has as many factors as the LFADS model, but fewer than neurons; all neurons are predicted
    from them by Poisson regression. Forward bins are not predicted.

    Args:
        given: the trials.
        sd: width of the smoothing, bins.
    """
    from sklearn.decomposition import FactorAnalysis
    from sklearn.exceptions import ConvergenceWarning

    n, channels = given.n_seen, _moving(given)
    seen = given.shown(channels)
    (x,) = complete_rows(_within(np.sqrt(smooth(seen[0], sd)), seen[0]))
    rows = x.reshape(-1, x.shape[-1])
    n_factors = min(given.n_factors, len(channels) - 1)
    model = FactorAnalysis(n_factors, **_how_to_decompose(len(channels)))
    few = rows[:: every_nth(len(rows), len(channels), given.effort)]
    with warnings.catch_warnings(), np.errstate(divide="ignore"):  # identical neurons
        warnings.simplefilter("ignore", ConvergenceWarning)
        stand_ins = rows_of_same_covariance(few)
        model.tol *= len(stand_ins) / len(few)  # it applies to the log-likelihood of all rows
        model.fit(stand_ins)
    model.mean_ = few.mean(0, dtype=np.float64)

    def factors(smoothed: np.ndarray) -> np.ndarray:
        rows = np.sqrt(np.maximum(smoothed, 0)).reshape(-1, len(channels))
        return model.transform(rows).reshape(*smoothed.shape[:2], -1)

    everywhere = [factors(smooth(a, sd)) for a in seen]
    latents = [_within(z, a) for z, a in zip(everywhere, seen, strict=True)]
    counts = given.shown(list(range(given.train.shape[2])))[0]
    alpha = _best_penalty(latents[0], counts[..., _tried(counts)], given.effort)
    readout = Design(latents[0], counts.shape[-1], given.effort).fit(counts, alpha)

    def rates(z: np.ndarray) -> np.ndarray:
        whole = np.full((len(z), *given.train.shape[1:]), np.nan, np.float32)
        whole[:, :n] = readout.rates(z)
        return whole

    def from_the_rest(hidden: np.ndarray) -> np.ndarray:
        few, mean = seen[1][: len(hidden)], mean_of(seen[0], (0, 1))
        return rates(factors(smooth_rest(few, hidden[:, :n][..., channels], sd, mean)))

    about = f"{n_factors} factors, sd {sd:g} bins, penalty {alpha:g}"
    hidden = at_hidden(given.parts, from_the_rest)
    guesses = [rates(z) for z in everywhere]
    return Guess("factor analysis", guesses[0], guesses[1], hidden, latents[0], latents[1], about)


def rows_of_same_covariance(rows: np.ndarray) -> np.ndarray:
    """Return D + 1 rows of mean 0 with the covariance of the given rows (N, D).

    Factor analysis depends on its rows only through their covariance; with few rows it is as exact
    and much faster.

    >>> rows = np.random.default_rng(0).normal(size=(500, 3))
    >>> np.allclose(np.cov(rows_of_same_covariance(rows).T, ddof=0), np.cov(rows.T, ddof=0))
    True
    """
    centred = rows - rows.mean(0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(rows))
    n = len(variances)
    half = np.sqrt(np.maximum(variances, 0) * (n + 1))[:, None] * axes.T
    # a reflection that spreads D rows over D + 1 rows removes their mean and keeps the covariance
    whole = np.concatenate([half, np.zeros((1, n))])
    across = np.full(n + 1, 1 / np.sqrt(n + 1))
    across[-1] -= 1  # the reflection maps the last axis to the direction of the mean
    return np.asarray(whole - 2 * np.outer(across, across @ whole) / (across @ across))


def _how_to_decompose(n_neurons: int) -> dict[str, Any]:
    """Return the SVD arguments for scikit-learn's factor analysis: the full SVD if it is cheap."""
    if n_neurons <= MOST_DECOMPOSED_WHOLE:
        return {"svd_method": "lapack"}
    return {"svd_method": "randomized", "random_state": 0}


def _moving(given: Given) -> list[int]:
    """Return the columns of the seen neurons that are not constant."""
    (seen, _) = given.shown(given.held_in)
    return [c for c, moves in zip(given.held_in, varies(seen), strict=True) if moves]


def _cost(given: Given) -> Cost:
    if given.is_counts:
        return _poisson_cost
    return lambda guess, data: _sum(np.square(data - guess))


def _poisson_cost(rates: np.ndarray, counts: np.ndarray) -> float:
    # without log n!, which is the same for all rates
    rates = np.maximum(rates, SMALLEST_RATE)
    return _sum(rates - counts * np.log(rates))


def _sum(each: np.ndarray) -> float:
    """Return the sum over the entries that are not NaN."""
    return float(np.nansum(each) if has_missing(each) else each.sum())


def _some(x: np.ndarray, effort: float) -> np.ndarray:
    """Return the indices of a few trials of x (E, T, D), evenly spaced."""
    most = int(MOST_TRIED * effort) // max(x[0].size, 1)
    n = min(len(x), max(FEWEST_TRIALS_TRIED, min(most, MOST_TRIALS_TRIED)))
    return np.arange(n) * len(x) // n


def _without_own(x: np.ndarray, sd: float) -> np.ndarray:
    """Smooth x (E, T, D) over time, each bin from the other bins only."""
    own = np.diag(kernel(x.shape[1], sd))[:, None]  # the weight that a bin has in its own mean
    if has_missing(x):
        known = (~np.isnan(x)).astype(np.float64)
        x, mean = np.nan_to_num(x), mean_of(x, (0, 1))
        others = smooth(known, sd) - own * known
        local = (smooth(x, sd) - own * x) / np.maximum(others, LEAST_WEIGHT)
        return np.where(others > LEAST_WEIGHT, local, mean)
    return (smooth(x, sd) - own * x) / np.maximum(1 - own, 1e-9)


def _best(
    local: Callable[[float], np.ndarray],
    data: np.ndarray,
    mean: np.ndarray,
    tried: np.ndarray,
    cost: Cost,
) -> tuple[float, float]:
    """Return the width and the share of the local mean that have the lowest cost."""
    costs = {}
    for sd in tried:
        guess = local(float(sd))
        for share in SHARES:
            costs[float(sd), share] = cost(share * guess + (1 - share) * mean, data)
    return min(costs, key=costs.__getitem__)


def _tried(counts: np.ndarray) -> np.ndarray:
    """Return the columns of the most active neurons of (E, T, N)."""
    return np.sort(np.argsort(-np.nansum(counts, (0, 1)), kind="stable")[:N_TRIED])


class _Tried:
    """Trials to compare penalties on: fits a read-out on four fifths of them, scores the rest."""

    def __init__(self, x: np.ndarray, counts: np.ndarray, effort: float) -> None:
        some = _some(x, effort)
        fitted, scored = some[np.arange(len(some)) % 5 != 0], some[::5]
        self.is_empty = len(fitted) == 0
        if not self.is_empty:
            self.design, self.counts = Design(x[fitted], counts.shape[-1]), counts[fitted]
            self.x, self.scored = x[scored], counts[scored]

    def cost(self, alpha: float) -> float:
        """Return the cost of the read-out on the remaining trials."""
        if self.is_empty:
            return 0.0
        return _poisson_cost(self.design.fit(self.counts, alpha).rates(self.x), self.scored)


def _best_penalty(x: np.ndarray, counts: np.ndarray, effort: float) -> float:
    return min(ALPHAS, key=_Tried(x, counts, effort).cost)


def _best_readout(
    seen: np.ndarray, counts: np.ndarray, n_bins: int, effort: float
) -> tuple[float, float]:
    """Return the smoothing width and the penalty that predict held-out neurons best.

    The width is chosen first, at a medium penalty, then the penalty.
    """
    counts, some = counts[..., _tried(counts)], _some(seen, effort)
    seen, counts = seen[some], counts[some]
    tried = {
        float(sd): _Tried(_within(smooth(seen, float(sd)), seen), counts, 1.0)
        for sd in widths(n_bins)[::3]
    }
    sd = min(tried, key=lambda sd: tried[sd].cost(ALPHAS[2]))
    return sd, min(ALPHAS, key=tried[sd].cost)
