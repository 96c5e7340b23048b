"""What simple methods make of the same trials: the rows beside LFADS in a table of scores.

Every method sees what LFADS sees, the neurons that are not held out in the bins before the forward
ones, and whatever it chooses (widths, penalties) it chooses on the training trials. A smoothing
width is chosen by how well a bin is predicted from the others alone: with itself among them, a
spike would explain itself.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from lfads_lightning.data.labels import has_condition
from lfads_lightning.metrics import MOST_ROWS, SMALLEST_RATE, poisson_readout, smooth, widths

SHARES = (0.5, 0.7, 0.85, 0.95, 0.99)  # of a local mean; the rest is the neuron's overall mean
ALPHAS = (1e-3, 1e-2, 0.1, 1.0)  # penalties of the read-outs; few trials want strong ones
N_TRIED = 8  # neurons that width and penalty of a read-out are chosen by
MOST_TRIALS_TRIED = 200

Cost = Callable[[np.ndarray, np.ndarray], float]


class Given(NamedTuple):
    """What a method is given of a session."""

    train: np.ndarray  # (E, T, D), training trials
    test: np.ndarray  # (E', T, D), of which it sees the seen part
    held_out: list[int]  # columns that it must predict
    forward_steps: int  # last bins, the same
    train_condition: np.ndarray | None  # (E,) labels
    test_condition: np.ndarray | None
    n_factors: int
    poisson: bool

    @property
    def held_in(self) -> list[int]:
        """The columns that are seen."""
        return np.setdiff1d(np.arange(self.train.shape[2]), self.held_out).tolist()

    @property
    def n_seen(self) -> int:
        """The bins that are seen."""
        return self.train.shape[1] - self.forward_steps


class Guess(NamedTuple):
    """What a method says of the trials."""

    name: str
    train: np.ndarray  # (E, T, D) rates; NaN where it says nothing
    test: np.ndarray  # (E', T, D)
    hidden: np.ndarray | None = None  # (E', T, D), each bin from the others alone
    train_latents: np.ndarray | None = None  # (E, seen bins, n)
    test_latents: np.ndarray | None = None
    about: str = ""


def baselines(given: Given) -> Iterator[Guess]:
    """Yield the guesses: constant rate, PSTH, smoothing and, of counts, factor analysis."""
    yield constant_rate(given)
    yield psth_rates(given)
    smoothed, sd = smoothing(given)
    yield smoothed
    if given.poisson and len(_moving(given)) > 1:
        yield factor_analysis(given, sd)


def constant_rate(given: Given) -> Guess:
    """Predict each neuron's mean over the training trials."""
    mean = given.train.mean((0, 1))
    train, test = (np.broadcast_to(mean, x.shape) for x in (given.train, given.test))
    return Guess("constant rate", train, test, hidden=test)


def psth_rates(given: Given) -> Guess:
    """Predict the mean of a condition's training trials, smoothed; the method is told conditions.

    Without conditions the mean of all trials; for a trial of none the constant rate. Width, and
    the share of the overall mean, are those that predict each training trial best from the others.
    """
    train, mean, cost = given.train, given.train.mean((0, 1)), _cost(given)
    known = given.train_condition is not None and given.test_condition is not None
    labels = given.train_condition if known else np.zeros(len(train), int)
    test_labels = given.test_condition if known else np.zeros(len(given.test), int)
    assert labels is not None
    assert test_labels is not None
    there = np.unique(labels[has_condition(labels)])
    sums = {k: train[labels == k].sum(0, dtype=np.float64) for k in there}
    n = {k: int((labels == k).sum()) for k in sums}
    some = _some(len(train))
    # of the trial itself nothing; of a condition with one trial nothing at all
    others = np.stack([
        (sums[k] - x) / (n[k] - 1) if n.get(k, 0) > 1 else np.broadcast_to(mean, x.shape)
        for x, k in zip(train[some], labels[some], strict=True)
    ])  # fmt: skip
    tried = widths(train.shape[1])
    sd, share = _best(lambda sd: smooth(others, sd), train[some], mean, tried, cost)
    means = {k: share * smooth((sums[k] / n[k])[None], sd)[0] + (1 - share) * mean for k in sums}
    overall = np.broadcast_to(mean, train.shape[1:])
    guess, test = (
        np.stack([means.get(k, overall) for k in each], dtype=np.float32)
        for each in (labels, test_labels)
    )
    about = f"sd {sd:g} bins" + ("" if known else "; no conditions: the mean of all trials")
    return Guess("PSTH", guess, test, hidden=test, about=about)


def smoothing(given: Given) -> tuple[Guess, float]:
    """Smooth the neurons that are seen; read held-out ones from these by Poisson regression.

    Returns:
        The guess, and its width (sd, bins). Forward bins are left open.
    """
    held_in, n = given.held_in, given.n_seen
    train, test = (x[:, :n][..., held_in] for x in (given.train, given.test))
    mean = train.mean((0, 1))
    some = train[_some(len(train))]
    sd, share = _best(lambda sd: _without_own(some, sd), some, mean, widths(n), _cost(given))

    def whole(local: np.ndarray) -> np.ndarray:
        rates = np.full((len(local), *given.train.shape[1:]), np.nan, np.float32)
        rates[np.ix_(range(len(rates)), range(n), held_in)] = share * local + (1 - share) * mean
        return rates

    guess, about = [whole(smooth(x, sd)) for x in (train, test)], f"sd {sd:g} bins"
    if given.held_out and given.poisson:
        counts = given.train[:, :n][..., given.held_out]
        width, alpha = _best_readout(train, counts, n)
        fitted = smooth(train, width), counts
        for rates, seen in zip(guess, (train, test), strict=True):
            read = poisson_readout(*fitted, smooth(seen, width), alpha)
            rates[np.ix_(range(len(rates)), range(n), given.held_out)] = read
        about += f"; held-out neurons: sd {width:g} bins, penalty {alpha:g}"
    hidden = whole(_without_own(test, sd))
    return Guess("smoothing", guess[0], guess[1], hidden=hidden, about=about), sd


def factor_analysis(given: Given, sd: float) -> Guess:
    """Factor analysis of the smoothed neurons that are seen (scikit-learn); rates from its factors.

    As many factors as the LFADS model has, and fewer than neurons; all neurons are read from them
    by Poisson regression. Forward bins are left open.

    Args:
        given: the trials.
        sd: of the smoothing, bins.
    """
    from sklearn.decomposition import FactorAnalysis
    from sklearn.exceptions import ConvergenceWarning

    n, channels = given.n_seen, _moving(given)
    x, test_x = (np.sqrt(smooth(a[:, :n][..., channels], sd)) for a in (given.train, given.test))
    rows = x.reshape(-1, x.shape[-1])
    n_factors = min(given.n_factors, len(channels) - 1)
    model = FactorAnalysis(n_factors, svd_method="randomized", random_state=0)
    with warnings.catch_warnings(), np.errstate(divide="ignore"):  # neurons that are alike
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows[:: -(-len(rows) // MOST_ROWS)])
    latents = [
        model.transform(a.reshape(-1, a.shape[-1])).reshape(*a.shape[:2], -1) for a in (x, test_x)
    ]
    counts = given.train[:, :n]
    alpha = _best_penalty(latents[0], counts[..., _tried(counts)])
    guesses = []
    for whole, z in zip((given.train, given.test), latents, strict=True):
        rates = np.full(whole.shape, np.nan, np.float32)
        rates[:, :n] = poisson_readout(latents[0], counts, z, alpha)
        guesses.append(rates)
    about = f"{n_factors} factors, sd {sd:g} bins, penalty {alpha:g}"
    return Guess("factor analysis", guesses[0], guesses[1], None, latents[0], latents[1], about)


def _moving(given: Given) -> list[int]:
    """Return the columns that are seen and change."""
    seen = given.train[:, : given.n_seen]
    return [c for c in given.held_in if np.ptp(seen[..., c]) > 0]


def _cost(given: Given) -> Cost:
    if given.poisson:
        return _poisson_cost
    return lambda guess, data: float(np.square(data - guess).sum())


def _poisson_cost(rates: np.ndarray, counts: np.ndarray) -> float:
    # without log n!, which is the same for all
    rates = np.maximum(rates, SMALLEST_RATE)
    return float((rates - counts * np.log(rates)).sum())


def _some(n_trials: int) -> np.ndarray:
    """Return at most 200 trials, evenly spaced, by which something is chosen."""
    n = min(n_trials, MOST_TRIALS_TRIED)
    return np.arange(n) * n_trials // n


def _without_own(x: np.ndarray, sd: float) -> np.ndarray:
    """Smooth x (E, T, D) over time, each bin from the others alone."""
    # the weight that a bin has in its own mean: the response to one at each bin, there
    own = np.diag(gaussian_filter1d(np.eye(x.shape[1]), sd, axis=1, mode="reflect"))[:, None]
    return (smooth(x, sd) - own * x) / np.maximum(1 - own, 1e-9)


def _best(
    local: Callable[[float], np.ndarray],
    data: np.ndarray,
    mean: np.ndarray,
    tried: np.ndarray,
    cost: Cost,
) -> tuple[float, float]:
    """Return the width and the share of the local mean that cost least."""
    costs = {}
    for sd in tried:
        guess = local(float(sd))
        for share in SHARES:
            costs[float(sd), share] = cost(share * guess + (1 - share) * mean, data)
    return min(costs, key=costs.__getitem__)


def _tried(counts: np.ndarray) -> np.ndarray:
    """Return a few lively neurons of (E, T, N)."""
    return np.sort(np.argsort(-counts.sum((0, 1)), kind="stable")[:N_TRIED])


def _cost_of_readout(x: np.ndarray, counts: np.ndarray, alpha: float) -> float:
    """Fit a read-out on four fifths of some trials; return what it costs on the others."""
    some = _some(len(x))
    fitted, scored = some[np.arange(len(some)) % 5 != 0], some[::5]
    if len(fitted) == 0:
        return 0.0
    return _poisson_cost(poisson_readout(x[fitted], counts[fitted], x[scored], alpha),
                         counts[scored])  # fmt: skip


def _best_penalty(x: np.ndarray, counts: np.ndarray) -> float:
    return min(ALPHAS, key=lambda alpha: _cost_of_readout(x, counts, alpha))


def _best_readout(seen: np.ndarray, counts: np.ndarray, n_bins: int) -> tuple[float, float]:
    """Return the width of smoothing and the penalty by which unseen neurons are read best."""
    counts, costs = counts[..., _tried(counts)], {}
    for sd in widths(n_bins)[::3]:
        x = smooth(seen, float(sd))
        for alpha in ALPHAS:
            costs[float(sd), alpha] = _cost_of_readout(x, counts, alpha)
    return min(costs, key=costs.__getitem__)
