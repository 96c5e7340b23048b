"""What a session file contains, what would fail in training, and what recipe=auto would choose."""

import hashlib
import shlex
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import as_counts
from lfads_lightning.data.fields import arrays_of
from lfads_lightning.data.oddities import axes_note, notes_on
from lfads_lightning.data.recipe import facts_of, line, settings_for
from lfads_lightning.data.session_files import read_sessions
from lfads_lightning.data.sessions import Session, check_session, check_together
from lfads_lightning.data.suggested import Suggestion, statistics_of, suggested
from lfads_lightning.data.values import could_be_real
from lfads_lightning.metrics import mean_of

# Channels that share spikes (cross-talk, one neuron sorted twice) are correlated within a bin and
# hardly across bins; neurons that follow a common signal are correlated across bins as well. So the
# test is r(same bin) - r(next bin). In our recordings without cross-talk it stays below 0.06.
SHARED_SPIKES = 0.3
MOST_BINS = 500_000  # bins used for correlations: an error of r below 0.002


@dataclass
class Finding:
    """A session of a file, as `lfads check` shows it.

    Attributes:
        name: name of the session.
        source: file, or file and group.
        n_trials: number of trials, by split.
        n_bins: T, of the longest trial.
        shortest: bins of the shortest trial.
        equal_trials: whether all trials are equally long, without missing entries.
        n_neurons: D.
        is_counts: whether the data are counts, not real values.
        bin_width_s: None if the file does not say.
        rates: (D,) counts per bin of the training trials.
        silent: neurons without a spike in them, counted from 0.
        duplicated: pairs of neurons with the same values throughout.
        correlated: pairs that share spikes, and r(same bin) - r(next bin).
        empty_trials: trials without any spike, by split.
        faults: what training would refuse.
        cautions: what training would accept, but is probably a mistake.
        noise: the noise model that the values suggest, and why.
        recipe: what recipe=auto would choose for this session alone, in a line.
    """

    name: str
    source: str
    n_trials: dict[str, int]
    n_bins: int
    shortest: int
    equal_trials: bool
    n_neurons: int
    is_counts: bool
    bin_width_s: float | None
    rates: np.ndarray
    silent: list[int] = field(default_factory=list)
    duplicated: list[tuple[int, int]] = field(default_factory=list)
    correlated: list[tuple[int, int, float]] = field(default_factory=list)
    empty_trials: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    noise: Suggestion | None = None
    recipe: str = ""


def check_file(path: str | Path) -> list[Finding]:
    """Check every session of a file.

    Raises:
        LFADSError: the file cannot be read as sessions at all.
    """
    sessions = read_sessions(path)
    found = [_look_at(session) for session in sessions]
    try:
        check_together(sessions)
    except LFADSError as error:
        found[-1].faults.append(str(error))
    return found


def _look_at(session: Session) -> Finding:
    data = {name: split.data for name, split in session.splits.items()}
    is_counts = all(as_counts(array) is not None for array in data.values())
    train = session.train.data
    found = Finding(
        session.name,
        session.source,
        {name: len(array) for name, array in data.items()},
        session.n_bins,
        session.shortest,
        session.equal_trials,
        session.data_dim,
        is_counts or not could_be_real(data),
        session.bin_width_s,
        mean_of(session.train.known, (0, 1), dtype=np.float64),
    )
    _refusals(session, found)
    if found.faults:
        return found
    found.silent = np.flatnonzero(~train.any(axis=(0, 1))).tolist()
    if found.is_counts:
        found.empty_trials = {
            name: int((~array.any(axis=(1, 2))).sum()) for name, array in data.items()
        }
    found.duplicated = duplicates(train, set(found.silent))
    if found.is_counts:
        found.correlated = [
            (i, j, r) for i, j, r in shared_spikes(train) if (i, j) not in found.duplicated
        ]
    _cautions(session, found)
    known = {name: split.known for name, split in session.splits.items()}
    found.noise = suggested(statistics_of(known))
    facts = facts_of([arrays_of(session)])
    if facts is not None:
        found.recipe = line(settings_for(facts), facts)
    return found


def _refusals(session: Session, found: Finding) -> None:
    """Collect what training would refuse."""
    for split in session.splits.values():
        n_inputs = 0 if split.ext_input is None else split.ext_input.shape[-1]
        matrix = session.alignment_matrix_cxf
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_session(
                    session,
                    output_dist="poisson" if found.is_counts else "gaussian",
                    ext_input_dim=n_inputs,
                    factors_dim=1 if matrix is None else matrix.shape[-1],
                    warn=False,
                )
        except LFADSError as error:
            text = str(error).removeprefix(f"{session.source}: ")
            if text not in found.faults:
                found.faults.append(text)


def duplicates(data: np.ndarray, leave_out: set[int]) -> list[tuple[int, int]]:
    """Return pairs of neurons of (E, T, D) with the same values throughout."""
    n_neurons = data.shape[2]
    hashes = [hashlib.blake2b() for _ in range(n_neurons)]
    for trial in data:
        columns = np.ascontiguousarray(trial.T)
        for d in range(n_neurons):
            hashes[d].update(columns[d])
    first: dict[bytes, int] = {}
    pairs = []
    for d, each in enumerate(hashes):
        other = first.setdefault(each.digest(), d)
        if other != d and d not in leave_out:
            pairs.append((other, d))
    return pairs


def shared_spikes(data: np.ndarray) -> list[tuple[int, int, float]]:
    """Return pairs of neurons of (E, T, D) that share spikes: r(same bin) - r(next bin) > 0.3.

    In a long recording, only evenly spaced trials are used.

    Returns:
        (neuron, neuron, difference), the strongest first; only differences of more than five
        standard errors.
    """
    n_trials, n_bins, n_neurons = data.shape
    if n_bins < 2 or n_neurons < 2:
        return []
    n = min(n_trials, max(MOST_BINS // n_bins, 1))
    chosen = np.linspace(0, n_trials - 1, n).astype(int)
    total, square = np.zeros(n_neurons), np.zeros(n_neurons)
    same, following = np.zeros((2, n_neurons, n_neurons))
    for i in chosen:
        trial = data[i].astype(np.float64)
        total += trial.sum(0)
        square += np.square(trial).sum(0)
        same += trial.T @ trial
        following += trial[:-1].T @ trial[1:]
    rows = n * n_bins
    mean = total / rows
    sd = np.sqrt(np.maximum(square / rows - mean**2, 0))
    scale = np.outer(sd, sd)
    with np.errstate(divide="ignore", invalid="ignore"):
        r_same = (same / rows - np.outer(mean, mean)) / scale
        r_next = (following / (n * (n_bins - 1)) - np.outer(mean, mean)) / scale
    excess = np.nan_to_num(r_same - np.maximum(r_next, r_next.T), posinf=0, neginf=0)
    least = max(SHARED_SPIKES, 5 * np.sqrt(2 / rows))
    first, second = np.nonzero(np.triu(excess > least, 1))
    pairs = [(int(i), int(j), float(excess[i, j])) for i, j in zip(first, second, strict=True)]
    return sorted(pairs, key=lambda pair: -pair[2])


def _cautions(session: Session, found: Finding) -> None:
    ids = np.arange(found.n_neurons) if session.neuron_ids is None else session.neuron_ids

    def named(neurons: list[int]) -> str:
        return " ".join(shlex.quote(str(i)) for i in ids[neurons].tolist())

    if session.valid is None:
        found.cautions.append(
            "valid_data is missing, so the best epoch cannot be chosen; lfads prepare holds out a "
            "fifth of the trials"
        )
    if found.silent:
        found.cautions.append(
            f"silent neurons: {listed(ids[found.silent].tolist(), 10)}; leave them out "
            "(lfads prepare --min-rate-hz 0.1)"
        )
    if found.duplicated:
        second = [j for _, j in found.duplicated]
        found.cautions.append(
            f"neurons with the same spikes as another: {len(second)}; leave them out (lfads "
            f"prepare --leave-out {named(second)}), or coordinated dropout cannot prevent copying"
        )
    if found.correlated:
        second = sorted({j for _, j, _ in found.correlated})
        worst = found.correlated[0]
        found.cautions.append(
            f"pairs of neurons that share spikes: {len(found.correlated)} (most of all "
            f"{ids[worst[0]]} and {ids[worst[1]]}: their correlation within a bin exceeds that "
            f"across neighbouring bins by {worst[2]:.2f}). This is cross-talk, or one neuron "
            "sorted twice; with such pairs coordinated dropout cannot prevent copying; leave out "
            f"one of each pair (lfads prepare --leave-out {named(second)})"
        )
    train = session.train.data
    found.cautions += axes_note("train_data", train)
    found.cautions += notes_on(train, session.bin_width_s, found.is_counts, ids)
    empty = sum(found.empty_trials.values())
    if empty:
        found.cautions.append(f"trials without spikes: {empty}; check the event and the window")
    if found.bin_width_s is None:
        found.cautions.append("bin_width_s is missing, so rates cannot be given in Hz")
