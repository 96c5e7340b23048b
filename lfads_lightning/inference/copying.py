"""Does a model copy the spikes it sees? The signature of overfitting that a validation cost hides.

A model that hands seen spikes on to its rates scores well on validation trials too, because it
sees these spikes there as well. Two things give it away: a likelihood above that of the true rates,
where these are known; and entries hidden from the encoders that it predicts far worse than seen
ones (Keshtkaran & Pandarinath 2019).
"""

import math
from typing import NamedTuple

import numpy as np

from lfads_lightning.data.sessions import Split
from lfads_lightning.inference.posterior import Evaluation, push_mean
from lfads_lightning.metrics import SMALLEST_RATE, poisson_nll
from lfads_lightning.training.watch import LEAST_SHARE, REMEDY

HIDDEN_SHARE = 0.2
LEAST_GAIN = 0.05  # bits/spike of seen entries; who explains less has hardly learned anything yet
MOST_TRIALS = 400  # of a session; enough for the error bars below


class Gains(NamedTuple):
    """What rates gain over each neuron's mean rate, per session: nats of each trial, and spikes."""

    seen: np.ndarray  # (E,)
    hidden: np.ndarray  # (E,)
    seen_spikes: float
    hidden_spikes: float


def hide(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw which fifth of the entries is hidden, and what data are multiplied with to hide it."""
    hidden = np.random.default_rng(seed).random(shape, np.float32) < HIDDEN_SHARE
    return hidden, (~hidden).astype(np.float32) / np.float32(1 - HIDDEN_SHARE)


def gains_of_hidden_entries(
    run: Evaluation, session: str, split: Split, never: np.ndarray | None = None, seed: int = 0
) -> Gains:
    """Hide a fifth of the entries from a Poisson model, and score its rates on both parts.

    Args:
        run: model and constants.
        session: of the data.
        split: whose first 400 trials are used.
        never: (T, D) bool, entries that no encoder ever sees, on neither part; None for none.
        seed: of which entries are hidden.
    """
    counts = split.data[:MOST_TRIALS]
    ext = None if split.ext_input is None else split.ext_input[:MOST_TRIALS]
    hidden, shown = hide(counts.shape, seed)
    rates = push_mean(run, session, counts, ext, shown).rates
    encoded = True if never is None else ~never
    each = {}
    for name, part in (("seen", ~hidden & encoded), ("hidden", hidden & encoded)):
        n = part.sum((0, 1))
        mean = (counts * part).sum((0, 1)) / np.maximum(n, 1)
        gain = counts * np.log(np.maximum(rates, SMALLEST_RATE) / np.maximum(mean, SMALLEST_RATE))
        each[name] = ((gain - rates + mean) * part).sum((1, 2)), float((counts * part).sum())
    return Gains(each["seen"][0], each["hidden"][0], each["seen"][1], each["hidden"][1])


def bits_of_hidden_entries(gains: list[Gains]) -> tuple[float, float]:
    """Return bits per spike on seen and on hidden entries; NaN without spikes."""
    per_spike = []
    for values, spikes in (
        (sum(g.seen.sum() for g in gains), sum(g.seen_spikes for g in gains)),
        (sum(g.hidden.sum() for g in gains), sum(g.hidden_spikes for g in gains)),
    ):
        per_spike.append(float(values / spikes / math.log(2)) if spikes else math.nan)
    return per_spike[0], per_spike[1]


def hidden_entries_message(gains: list[Gains]) -> str | None:
    """Say that hidden entries are predicted far worse than seen ones; None where they are not.

    The shortfall must be more than three standard errors over trials, and the model must explain
    something of the seen ones.
    """
    seen, hidden = bits_of_hidden_entries(gains)
    if not math.isfinite(seen + hidden) or seen < LEAST_GAIN:
        return None
    # per trial, the hidden part weighed up to the size of the seen one
    shortfall = np.concatenate(
        [LEAST_SHARE * g.seen - g.hidden * (1 - HIDDEN_SHARE) / HIDDEN_SHARE for g in gains]
    )
    error = shortfall.std() / math.sqrt(len(shortfall))
    if shortfall.mean() <= 3 * error:
        return None
    return (
        f"the model copies the spikes it sees: it explains {seen:.3f} bits/spike of the entries it "
        f"was shown, {hidden:.3f} of those hidden from it. Its validation cost says nothing of how "
        f"good it is; {REMEDY}"
    )


def better_than_truth_message(
    rates: np.ndarray, truth: np.ndarray, counts: np.ndarray
) -> str | None:
    """Say that rates fit the counts better than the true rates do; None where they do not.

    A truth that does not fit the counts itself is none: nothing is said where each neuron's mean
    rate fits them better.

    Args:
        rates: (E, T, D), expected counts per bin.
        truth: the same, true.
        counts: (E, T, D).
    """
    true = np.array([poisson_nll(r, n) for r, n in zip(truth, counts, strict=True)])
    better = true - [poisson_nll(r, n) for r, n in zip(rates, counts, strict=True)]
    null = poisson_nll(np.broadcast_to(counts.mean((0, 1)), counts.shape), counts)
    if true.sum() >= null or better.mean() <= 3 * better.std() / math.sqrt(len(better)):
        return None
    return (
        f"the model copies the spikes it sees: its rates fit the validation trials better than the "
        f"true rates do, by {better.mean():.4g} nats per trial, which nothing honest can; {REMEDY}"
    )
