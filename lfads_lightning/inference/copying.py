"""Does a model copy the spikes it sees? A kind of overfitting that the validation cost hides.

A model that copies the spikes it sees into its rates scores well on validation trials too, because
it sees their spikes as well. Two signs reveal it: a likelihood above that of the true rates, if
they are known; and far worse predictions of entries hidden from the encoders than of seen entries
(Keshtkaran & Pandarinath 2019).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lfads_lightning.data.sessions import Split
from lfads_lightning.inference.posterior import Evaluation, judged_rates
from lfads_lightning.metrics import SMALLEST_RATE, bits, has_missing, null_nll, poisson_nll
from lfads_lightning.training.copying import LEAST_SHARE, REMEDY

N_PARTS = 5  # of the entries; one of them is hidden at a time
HIDDEN_SHARE = 1 / N_PARTS
LEAST_GAIN = 0.05  # bits/spike on seen entries; a model below it has hardly learned anything yet
MOST_TRIALS = 400  # to infer: with few trials each part is hidden in turn, with many only one


class Gains(NamedTuple):
    """Gain of rates over each neuron's mean rate, per session: nats of each trial, and spikes.

    Sums over the hidden parts; each neuron's mean rate is over the scored entries.
    """

    seen: np.ndarray  # (E,)
    hidden: np.ndarray  # (E,)
    seen_spikes: float
    hidden_spikes: float


def parts_to_hide(
    shape: tuple[int, ...], most_trials: int = MOST_TRIALS, seed: int = 0
) -> list[np.ndarray]:
    """Draw which entries are hidden together: a fifth, or with few trials each fifth in turn.

    Args:
        shape: (E, T, D) of the data.
        most_trials: the largest number of trials to infer, over all parts.
        seed: seed of the draw.

    Returns:
        Up to five parts, each (E', T, D) bool, for the first E' trials.
    """
    n_trials = min(shape[0], max(most_trials, 1))
    n_parts = min(max(most_trials // n_trials, 1), N_PARTS)
    drawn = np.random.default_rng(seed).integers(N_PARTS, size=(n_trials, *shape[1:]), dtype="u1")
    return [drawn == k for k in range(n_parts)]


def shown(hidden: np.ndarray) -> np.ndarray:
    """Return the factors that hide a part of the data: 0 there, above 1 elsewhere in exchange."""
    return (~hidden).astype(np.float32) / np.float32(1 - HIDDEN_SHARE)


class Hidden(NamedTuple):
    """A model's predictions of hidden entries.

    Attributes:
        rates: (E, T, D) of the hidden entries, NaN elsewhere.
        gains: gains of the rates, for counts; else None.
        nats: mean log-density in nats per entry, for values other than counts; else None.
            Constant channels are left out.
    """

    rates: np.ndarray
    gains: Gains | None
    nats: float | None


def predict_hidden(
    run: Evaluation, session: str, split: Split, parts: Sequence[np.ndarray]
) -> Hidden:
    """Hide parts of the entries from a model, and predict them from the rest.

    Args:
        run: model and constants.
        session: name of the session.
        split: its first trials are used, as many as ``parts`` have.
        parts: each (E, T, D) bool; entries that no encoder ever sees are scored neither as seen
            nor as hidden.
    """
    split = split.rows(slice(len(parts[0])))
    counts, there = split.data, split.present
    lengths = None if split.lengths is None else torch.from_numpy(split.lengths)
    never = run.model.encoded.unseen(session, counts.shape[1], None, lengths)
    encoded = np.ones(counts.shape[1:], bool) if never is None else ~never.cpu().numpy()
    if there is not None:
        encoded = encoded & there
    found = np.full(counts.shape, np.nan, np.float32)
    noise = run.model.noise_model
    sums = {"seen": _Sum(counts), "hidden": _Sum(counts)}
    nats, n = 0.0, 0
    moves = encoded & (counts.max((0, 1)) > counts.min((0, 1)))
    for part in parts:
        given = judged_rates(run, session, split, shown(part))
        part = part & encoded
        found[part] = given.rates[part]
        if noise.is_counts:
            sums["hidden"].add(given.rates, part)
            sums["seen"].add(given.rates, ~part & encoded)
        else:
            params, y = (torch.as_tensor(x) for x in (given.output_dist_params, counts))
            scored = part & moves
            nats -= float(noise.nll_of_params(params, y, torch.as_tensor(scored)).sum())
            n += int(scored.sum())
    if not noise.is_counts:
        return Hidden(found, None, nats / n if n else math.nan)
    seen, hidden = sums["seen"], sums["hidden"]
    gains = Gains(seen.gain(), hidden.gain(), seen.spikes, hidden.spikes)
    return Hidden(found, gains, None)


class _Sum:
    """Log-likelihoods of rates over parts of the counts, and those of each neuron's mean rate."""

    def __init__(self, counts: np.ndarray) -> None:
        self.counts, n = counts, (len(counts), counts.shape[2])
        self.nats, self.n_spikes, self.n_bins = np.zeros(len(counts)), np.zeros(n), np.zeros(n)

    def add(self, rates: np.ndarray, part: np.ndarray) -> None:
        """Add rates (E, T, D) on a part of the entries."""
        each = self.counts * np.log(np.maximum(rates, SMALLEST_RATE)) - rates
        if has_missing(each):  # beyond the ends of trials
            each = np.where(part, each, 0)
        self.nats += (each * part).sum((1, 2), dtype=np.float64)
        self.n_spikes += (self.counts * part).sum(1)
        self.n_bins += part.sum(1)

    @property
    def spikes(self) -> float:
        """Spikes of the parts."""
        return float(self.n_spikes.sum())

    def gain(self) -> np.ndarray:
        """Return the gain of the rates over each neuron's mean, in nats per trial (E,)."""
        mean = self.n_spikes.sum(0) / np.maximum(self.n_bins.sum(0), 1)
        null = self.n_spikes * np.log(np.maximum(mean, SMALLEST_RATE)) - self.n_bins * mean
        return self.nats - null.sum(1)


def bits_of_hidden_entries(gains: list[Gains]) -> tuple[float, float]:
    """Return bits per spike on seen and on hidden entries; NaN without spikes."""
    per_spike = []
    for values, spikes in (
        (sum(g.seen.sum() for g in gains), sum(g.seen_spikes for g in gains)),
        (sum(g.hidden.sum() for g in gains), sum(g.hidden_spikes for g in gains)),
    ):
        per_spike.append(bits(float(values), spikes))
    return per_spike[0], per_spike[1]


def hidden_entries_message(gains: list[Gains]) -> str | None:
    """Return a warning that hidden entries are predicted far worse than seen ones, or None.

    The shortfall must be more than three standard errors over trials, and the model must have
    learned something about the seen entries.
    """
    seen, hidden = bits_of_hidden_entries(gains)
    if not math.isfinite(seen + hidden) or seen < LEAST_GAIN:
        return None
    # per trial; the hidden part is scaled up to the size of the seen part
    shortfall = np.concatenate(
        [LEAST_SHARE * g.seen - g.hidden * (1 - HIDDEN_SHARE) / HIDDEN_SHARE for g in gains]
    )
    error = shortfall.std() / math.sqrt(len(shortfall))
    if shortfall.mean() <= 3 * error:
        return None
    return (
        f"the model copies the spikes it sees: it explains {seen:.3f} bits/spike of the entries it "
        f"was shown, {hidden:.3f} of those hidden from it. Its validation cost does not tell how "
        f"good it is; {REMEDY}"
    )


def better_than_truth_message(
    rates: np.ndarray, truth: np.ndarray, counts: np.ndarray
) -> str | None:
    """Return a warning that rates fit the counts better than the true rates do, or None.

    There is no warning if the true rates fit the counts worse than each neuron's mean rate does:
    they are not the truth then.

    Args:
        rates: (E, T, D), expected counts per bin.
        truth: (E, T, D), the true rates.
        counts: (E, T, D); NaN entries are left out.
    """
    true = np.array([poisson_nll(r, n) for r, n in zip(truth, counts, strict=True)])
    better = true - [poisson_nll(r, n) for r, n in zip(rates, counts, strict=True)]
    if true.sum() >= null_nll(counts) or better.mean() <= 3 * better.std() / math.sqrt(len(better)):
        return None
    return (
        f"the model copies the spikes it sees: its rates fit the validation trials better than the "
        f"true rates do, by {better.mean():.4g} nats per trial, which only copying can; {REMEDY}"
    )
