"""The table of scores that an evaluation gives: as data, as JSON, as text."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lfads_lightning.files import whole_file

FILE = "evaluation.json"
LFADS = "LFADS"

NOTES = {
    "bits_per_spike": "bits/spike of what is seen, against each neuron's mean over the scored "
    "trials. Copying a spike counts as explaining it: not for comparing methods",
    "hidden_bits_per_spike": "bits/spike of entries that were hidden (LFADS: a fifth at random; "
    "smoothing: each bin from the others); same null",
    "co_bps": "co-smoothing: bits/spike of the held-out neurons in the bins seen of the others; "
    "null: their means over the scored trials",
    "fp_bps": "forward prediction: bits/spike of all neurons in the last bins; same null",
    "few_shot_co_bps": "co-bps of a new read-out from the factors, fitted on a few trials",
    "behaviour_r2": "R2 of behaviour from the rates, mean over variables: ridge regression, its "
    "penalty by cross-validation on the training trials",
    "behaviour_r2_factors": "the same from the factors",
    "psth_r2": "R2 of condition-mean rates against smoothed PSTHs of all trials, mean over neurons",
    "rate_r2": "R2 of rates against true rates, mean over neurons",
    "rate_r2_pooled": "the same, pooled over neurons, trials and bins",
    "effective_dim": "effective dimensions of the factors (participation ratio)",
}
Rows = dict[str, dict[str, float]]


class Part(NamedTuple):
    """The scores of one split of a session.

    Attributes:
        session: its name.
        split: train or valid.
        rows: method to metric to value; a metric that a method does not have is left out.
        about: what each method chose on the training trials.
        data: what was scored: numbers of trials, bins, neurons, spikes.
    """

    session: str
    split: str
    rows: Rows
    about: dict[str, str]
    data: dict[str, float]


class EvaluationTable(NamedTuple):
    """Scores of a model and of simple methods, by session."""

    parts: list[Part]

    @property
    def notes(self) -> dict[str, str]:
        """What each metric is, its null model and its unit; what was scored; what methods chose."""
        there = {m for part in self.parts for row in part.rows.values() for m in row}
        notes = {name: note for name, note in NOTES.items() if name in there}
        for p in self.parts:
            where = f"{p.session}, {p.split}"
            notes[where] = _scored(p)
            notes |= {f"{row} ({where})": text for row, text in p.about.items() if text}
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return {session: {split: {method: {metric: value}}}}, and notes: evaluation.json."""
        result: dict[str, Any] = {}
        for p in self.parts:
            result.setdefault(p.session, {})[p.split] = {
                row: {m: None if math.isnan(v) else v for m, v in values.items()}
                for row, values in p.rows.items()
            }
        return result | {"notes": self.notes}

    def write(self, folder: Path) -> Path:
        """Write evaluation.json to a run's folder."""
        with whole_file(folder / FILE) as path:
            path.write_text(json.dumps(self.to_dict(), indent=1))
        return folder / FILE

    def summary(self) -> dict[str, float]:
        """Return the model's scores over all sessions, as ``split/metric``.

        Bits per spike are of all spikes together; of the others, the mean over sessions.
        """
        found: dict[str, list[tuple[float, float]]] = {}
        for p in self.parts:
            for name, value in p.rows[LFADS].items():
                weight = p.data[_WEIGHTS[name]] if name in _WEIGHTS else 1.0
                found.setdefault(f"{p.split}/{name}", []).append((value, weight))
        return {
            name: sum(v * w for v, w in pairs) / sum(w for _, w in pairs)
            if sum(w for _, w in pairs)
            else math.nan
            for name, pairs in found.items()
        }

    def __str__(self) -> str:
        """Return the table as a terminal shows it."""
        return "\n\n".join([*map(_shown, self.parts), _notes_shown(self.notes)])


_WEIGHTS = {
    "bits_per_spike": "n_spikes",
    "hidden_bits_per_spike": "n_spikes",
    "co_bps": "n_held_out_spikes",
    "few_shot_co_bps": "n_held_out_spikes",
    "fp_bps": "n_forward_spikes",
}


def _scored(part: Part) -> str:
    d = part.data
    text = f"{d['n_trials']} trials x {d['n_bins']} bins x {d['n_neurons']} neurons"
    for key, what in (
        ("n_spikes", "spikes seen"),
        ("n_held_out_neurons", "neurons held out"),
        ("n_held_out_spikes", "held-out spikes"),
        ("n_forward_bins", "forward bins"),
        ("n_forward_spikes", "spikes there"),
        ("n_train_trials", "training trials"),
        ("few_shot_trials", "of them for few-shot read-outs"),
        ("lag_bins", "bins of lag to the behaviour"),
    ):
        text += f", {d[key]} {what}" if key in d else ""
    return text


def _shown(part: Part) -> str:
    names = [n for n in NOTES if any(n in row for row in part.rows.values())]
    head = [n.replace("_per_spike", "/spike").replace("_", " ") for n in names]
    sizes = [max(len(h), 7) for h in head]
    first = max(map(len, part.rows)) + 2
    lines = [f"{part.session}, {part.split}"]
    lines.append(" " * first + "  ".join(h.rjust(s) for h, s in zip(head, sizes, strict=True)))
    for row, values in part.rows.items():
        cells = [
            (f"{values[n]:.3f}" if n in values else "-").rjust(s)
            for n, s in zip(names, sizes, strict=True)
        ]
        lines.append(row.ljust(first) + "  ".join(cells))
    return "\n".join(lines)


def _notes_shown(notes: Mapping[str, str]) -> str:
    width = max(map(len, notes), default=0) + 2
    return "\n".join(f"  {name.ljust(width)}{note}" for name, note in notes.items())
