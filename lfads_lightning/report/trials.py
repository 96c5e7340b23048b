"""The trials that figures show, and what a model infers from them."""

from typing import Any, NamedTuple

import numpy as np

from lfads_lightning.data.kinds import has_condition
from lfads_lightning.data.sessions import Session, Split
from lfads_lightning.inference.posterior import Evaluation, Posterior, judged

MOST_TRIALS, MOST_CONDITIONS = 120, 7  # more could not be told apart
N_SPREAD = 6  # trials whose inferred inputs are drawn with their spread


class Trials(NamedTuple):
    """Trials of one split of a session, and what a model infers from them.

    Attributes:
        title: session and split.
        counts: (E, T, D) data; NaN where entries are missing. All other arrays are NaN beyond a
            trial's end.
        posterior: averages over posterior samples for these trials.
        truth: (E, T, D) true rates in the units of ``posterior.rates``, or None.
        condition: (E,) labels, or None.
        bin_width_s: bin width in seconds, or None.
        spread: (n, T, U) standard deviation of the inferred inputs of the first n trials over
            posterior samples, or None.
        ar_tau: (U,) time constants of the prior over inferred inputs, bins, or None.
        is_counts: whether the data are counts.
        numbers: (E,) numbers of the trials within their split.
        begin_s: start of the trials, in seconds from the event they are aligned to, or None.
        event_name: name of the event, or None.
        held_out: neurons that are predicted from the others.
        n_forward: number of last bins that are predicted from the bins before them.
    """

    title: str
    counts: np.ndarray
    posterior: Posterior
    truth: np.ndarray | None
    condition: np.ndarray | None
    bin_width_s: float | None
    spread: np.ndarray | None
    ar_tau: np.ndarray | None
    is_counts: bool
    numbers: np.ndarray
    begin_s: float | None = None
    event_name: str | None = None
    held_out: tuple[int, ...] = ()
    n_forward: int = 0

    @property
    def time(self) -> np.ndarray:
        """(T,) centres of the bins, s from the event or from the first bin; or their numbers."""
        n_bins = self.counts.shape[1]
        if self.bin_width_s is None:
            return np.arange(n_bins)
        return (np.arange(n_bins) + 0.5) * self.bin_width_s + (self.begin_s or 0.0)

    @property
    def ends(self) -> tuple[float, float]:
        """When the first bin begins and the last one ends, in the units of ``time``."""
        half = 0.5 * (self.bin_width_s or 1)
        return self.time[0] - half, self.time[-1] + half

    @property
    def time_label(self) -> str:
        """The label of the time axis."""
        if self.bin_width_s is None:
            return "time (bins)"
        return "time (s)" if self.begin_s is None else f"time from {self._name} (s)"

    @property
    def narrow_time_label(self) -> str:
        """The label of the time axis of a narrow panel: a long name gets its own line."""
        if len(self.time_label) <= 26 or not self.time_label.startswith("time from "):
            return self.time_label
        name = self._name if len(self._name) <= 22 else f"{self._name[:21]}…"
        return f"time from\n{name} (s)"

    @property
    def _name(self) -> str:
        name = "the event" if self.event_name is None else self.event_name
        return name if len(name) <= 30 else f"{name[:29]}…"

    @property
    def event_bin(self) -> int | None:
        """The bin that begins with the event or contains it; None if no bin does."""
        if self.bin_width_s is None or self.begin_s is None:
            return None
        # an event at the edge of a bin belongs to that bin, whatever the rounding
        i = int(np.floor(-self.begin_s / self.bin_width_s + 1e-6))
        return i if 0 <= i < self.counts.shape[1] else None

    @property
    def event(self) -> float | None:
        """The time of the event, in the units of ``time``; None if it is not within the trials."""
        return None if self.event_bin is None else 0.0

    @property
    def forward(self) -> tuple[float, float] | None:
        """Begin and end of the bins that are predicted from those before; None without any."""
        if self.n_forward == 0:
            return None
        return self.ends[1] - self.n_forward * (self.bin_width_s or 1), self.ends[1]

    @property
    def time_note(self) -> str:
        """The caption's text on the marks along time, with a leading space."""
        event = f" Dashed: {self._name}, which trials are aligned to."
        forward = f" Under the bar: the last {self.n_forward} bins, predicted from those before."
        return ("" if self.event_bin is None else event) + (forward if self.n_forward else "")

    @property
    def held_out_note(self) -> str:
        """The caption's text on the marks at neurons, with a leading space."""
        return " Triangles: neurons held out, predicted from the others." if self.held_out else ""

    def named(self, neuron: int) -> str:
        """Return the title of a neuron's panel."""
        return f"neuron {neuron}" + (", held out" if neuron in self.held_out else "")

    @property
    def per_unit(self) -> float:
        """The factor from rates per bin to the rates shown."""
        return 1.0 if self.bin_width_s is None or not self.is_counts else 1 / self.bin_width_s

    @property
    def rate_label(self) -> str:
        """The label of an axis of rates."""
        if not self.is_counts:
            return "mean (units of the data)"
        return "spikes / bin" if self.bin_width_s is None else "spikes / s"

    def up_to_end(self, trial: int) -> "Trials":
        """Return the trials without the bins beyond the end of one of them."""
        n = int((~np.isnan(self.posterior.factors[trial, :, 0])).sum())
        if n == self.counts.shape[1]:
            return self

        def cut(array: Any) -> Any:
            return array[:, :n] if np.ndim(array) == 3 else array

        inferred = Posterior(*map(cut, self.posterior))
        rest = {name: cut(getattr(self, name)) for name in ("counts", "truth", "spread")}
        return self._replace(posterior=inferred, **rest)

    @property
    def median_trial(self) -> int:
        """The trial of median cost: neither the best nor the worst."""
        return int(np.argsort(self.posterior.costs, kind="stable")[len(self.counts) // 2])


def chosen(split: Split, most: int = MOST_TRIALS, also: int | None = None) -> np.ndarray:
    """Return the numbers of at most ``most`` trials, of at most seven conditions, evenly spaced.

    The trial ``also`` is added to them.
    """
    which = np.arange(len(split.data))
    if split.condition is not None:
        labelled = which[has_condition(split.condition)]
        names = np.unique(split.condition[labelled])
        if len(names) > 0:
            names = names[spaced(len(names), MOST_CONDITIONS)]
            which = labelled[np.isin(split.condition[labelled], names)]
    which = which[spaced(len(which), most)]
    return which if also is None else np.union1d(which, [also])


def spaced(n: int, most: int) -> np.ndarray:
    """Return at most ``most`` of the numbers below n, evenly spaced."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int)


def shown_trials(
    run: Evaluation,
    session: Session,
    split_name: str,
    posterior: Posterior | None = None,
    most: int = MOST_TRIALS,
    also: int | None = None,
) -> Trials:
    """Choose trials for figures, and infer what has not been inferred yet.

    Args:
        run: model and constants, with random numbers of its own.
        session: the session.
        split_name: train or valid.
        posterior: posterior of all trials of the split, if it has been computed.
        most: largest number of trials.
        also: number of a trial to include.
    """
    split = session.splits[split_name]
    which = chosen(split, most, also)
    shown = split.rows(which)
    if posterior is None:
        posterior = judged(run, session.name, shown)
    else:
        parts: dict[str, Any] = {
            k: None if a is None else a[which] for k, a in posterior._asdict().items()
        }
        posterior = Posterior(**parts)
    sd, tau = posterior.controller_outputs_sd, None
    if run.model.config.co_dim > 0:
        tau = run.model.co_prior.log_tau.detach().exp().cpu().numpy()
    truth = None if shown.truth is None else shown.truth / session.conversion_factor
    if truth is not None and (within := shown.inside) is not None:
        truth = np.where(within[..., None], truth, np.nan)
    labelled = split.condition is not None and has_condition(split.condition).any()
    spec = run.model.sessions[session.name]
    return Trials(
        f"{session.name}, {split_name}",
        shown.known,
        posterior,
        truth,
        split.condition[which] if split.condition is not None and labelled else None,
        session.bin_width_s,
        None if sd is None else sd[:N_SPREAD],
        tau,
        run.model.noise_model.is_counts,
        which,
        None if session.window_s is None else float(session.window_s[0]),
        session.event,
        spec.held_out,
        spec.forward_steps,
    )
