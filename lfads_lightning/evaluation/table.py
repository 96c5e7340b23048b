"""The table of scores of an evaluation: as data, as JSON, as text."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lfads_lightning.commands import listed
from lfads_lightning.notebook.cards import card, facts, folded, grid
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.names import EVALUATION

LFADS = "LFADS"
MEANS = "LFADS, posterior means"  # a single pass instead of an average over samples
BEST_SMOOTHING = "smoothing, width by truth"
TRUTH = "true rates"
CONSTANT = "constant rate"
SIZES = "scored data"  # key in the file: sizes by session and split

NOTES = {
    "co_bps": "co-smoothing: bits/spike of the held-out neurons, in the bins that are seen of the "
    "others; null model: their mean rates in the scored trials",
    "fp_bps": "forward prediction: bits/spike of all neurons in the forward bins; same null model",
    "hidden_bits_per_spike": "bits/spike of entries that were hidden, a fifth at a time; "
    "null model: each neuron's mean over these entries",
    "hidden_r2": "R2 of values that were hidden, a fifth at a time, mean over neurons",
    "hidden_nats": "log-density of hidden values, in nats per value, above that of each neuron's "
    "mean; for methods that predict only means, the spread of the noise model is fitted to these "
    "same values",
    "bits_per_spike": "bits/spike of the entries that the methods see, against each neuron's mean "
    "over the scored trials. Not for comparing methods: copying the spikes raises it",
    "few_shot_co_bps": "co-bps of a new read-out from the factors, fitted on a few trials",
    "behaviour_r2": "R2 of behaviour decoded from the rates, mean over variables; ridge "
    "regression, with the penalty chosen by cross-validation on the training trials",
    "behaviour_r2_factors": "the same, decoded from the factors",
    "psth_r2": "R2 of condition-averaged rates against smoothed PSTHs of all trials, mean over "
    "neurons",
    "rate_r2": "R2 of rates against true rates, mean over neurons",
    "rate_r2_pooled": "the same, pooled over neurons, trials and bins",
    "effective_dim": "effective dimensionality of the factors (participation ratio)",
}
# short forms for column headings
HEADS = {
    "co_bps": "held-out neurons, bits/spike",
    "fp_bps": "forward bins, bits/spike",
    "hidden_bits_per_spike": "hidden entries, bits/spike",
    "hidden_r2": "hidden values, R²",
    "hidden_nats": "hidden values, nats",
    "bits_per_spike": "seen entries, bits/spike",
    "few_shot_co_bps": "few-shot read-out, bits/spike",
    "behaviour_r2": "behaviour from rates, R²",
    "behaviour_r2_factors": "behaviour from factors, R²",
    "psth_r2": "condition means, R²",
    "rate_r2": "true rates, R²",
    "rate_r2_pooled": "true rates pooled, R²",
    "effective_dim": "dimensions of the factors",
}
# methods are compared by the first of these that the data allow: scores on entries that no method
# has seen
HEADLINES = {
    "co_bps": "bits/spike of held-out neurons",
    "fp_bps": "bits/spike of forward bins",
    "hidden_bits_per_spike": "bits/spike of hidden entries",
    "hidden_r2": "R2 of hidden values",
}
Rows = dict[str, dict[str, float]]


class Part(NamedTuple):
    """The scores of one split of a session.

    Attributes:
        session: name of the session.
        split: train or valid.
        rows: values by method and metric; metrics that a method does not have are left out.
        about: the settings that each method chose on the training trials.
        data: sizes of the scored data: numbers of trials, bins, neurons, spikes.
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
        """Meaning, null model and unit of each metric; the scored data; the methods' settings."""
        there = {m for part in self.parts for row in part.rows.values() for m in row}
        notes = {name: note for name, note in NOTES.items() if name in there}
        for p in self.parts:
            where = f"{p.session}, {p.split}"
            notes[where] = _scored(p)
            notes |= {f"{row} ({where})": text for row, text in p.about.items() if text}
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return {session: {split: {method: {metric: value}}}}, notes and sizes, as written."""
        result: dict[str, Any] = {}
        for p in self.parts:
            result.setdefault(p.session, {})[p.split] = {
                row: {m: None if math.isnan(v) else v for m, v in values.items()}
                for row, values in p.rows.items()
            }
        sizes: dict[str, Any] = {}
        for p in self.parts:
            sizes.setdefault(p.session, {})[p.split] = p.data
        return result | {"notes": self.notes, SIZES: sizes}

    def write(self, folder: Path, name: str = EVALUATION) -> Path:
        """Write a JSON file to a run's folder; evaluation.json is for the run's own data."""
        with whole_file(folder / name) as path:
            path.write_text(json.dumps(self.to_dict(), indent=1))
        return folder / name

    def overall(self, split: str) -> Rows:
        """Return the scores of a split over all sessions: values by method and metric.

        Bits per spike are over all spikes, R2 of rates and hidden values are means over all
        neurons, other metrics means over sessions. A method has a score only if it has it in every
        session in which the model has it.
        """
        parts = [p for p in self.parts if p.split == split]
        rows: Rows = {}
        for method in dict.fromkeys(row for p in parts for row in p.rows):
            rows[method] = {}
            for metric in NOTES:
                having = [p for p in parts if metric in p.rows[LFADS]]
                pairs = [
                    (p.rows[method][metric], p.data.get(_WEIGHTS.get(metric, ""), 1))
                    for p in having
                    if metric in p.rows.get(method, {})
                ]
                if pairs and len(pairs) == len(having):
                    total = sum(w for _, w in pairs)
                    # a session without scored spikes has no score, and weight 0
                    value = sum(v * w for v, w in pairs if w) / total if total else math.nan
                    rows[method][metric] = value
        return rows

    def summary(self) -> dict[str, float]:
        """Return the model's scores over all sessions, as ``split/metric``."""
        return {
            f"{split}/{metric}": value
            for split in dict.fromkeys(p.split for p in self.parts)
            for metric, value in self.overall(split)[LFADS].items()
        }

    def verdict(self, split: str) -> "Verdict | None":
        """Return which method predicts unseen entries best; None if no score tells."""
        rows = self.overall(split)
        for metric in HEADLINES:
            ours = rows.get(LFADS, {}).get(metric, math.nan)
            others = {
                name: row[metric]
                for name, row in rows.items()
                if name not in (LFADS, MEANS, BEST_SMOOTHING, TRUTH)
                and math.isfinite(row.get(metric, math.nan))
            }
            if math.isfinite(ours) and others:
                best = max(others, key=others.__getitem__)
                return Verdict(metric, split, ours, best, others[best], others.get(CONSTANT))
        return None

    def in_short(self, split: str) -> str:
        """Return the table over all sessions, best first, and a sentence on who is ahead."""
        names = list(dict.fromkeys(p.session for p in self.parts if p.split == split))
        title = names[0] if len(names) == 1 else f"{len(names)} sessions together"
        verdict = self.verdict(split)
        lines = [_rows_shown(f"{title}, {split}", self.overall(split))]
        return "\n".join([*lines, *([] if verdict is None else [str(verdict)])])

    def __str__(self) -> str:
        """Return the table as text for a terminal."""
        shown = [_rows_shown(f"{p.session}, {p.split}", p.rows) for p in self.parts]
        verdicts = [
            str(v)
            for v in map(self.verdict, dict.fromkeys(p.split for p in self.parts))
            if v is not None
        ]
        return "\n\n".join([*shown, *verdicts, _notes_shown(self.notes)])

    def __repr__(self) -> str:
        """Return the model's first scores."""
        scores = [f"{name} {value:.3f}" for name, value in self.summary().items()]
        return f"EvaluationTable({listed(scores, 3)})"

    def _repr_html_(self) -> str:
        return card("Scores", *self.tables_html())

    def tables_html(self) -> list[str]:
        """Return a table over all sessions of each split, and who is ahead, as HTML."""
        shown = []
        for split in dict.fromkeys(p.split for p in self.parts):
            rows, verdict = self.overall(split), self.verdict(split)
            names = [n for n in NOTES if any(n in row for row in rows.values())]
            cells = [
                (method, *(f"{row[n]:.3f}" if n in row else "–" for n in names))
                for method, row in best_first(rows).items()
            ]
            shown.append(grid((f"{split} trials", *(n.replace("_", " ") for n in names)), cells))
            shown += [] if verdict is None else [facts({"": verdict})]
        notes = folded("what the scores mean", facts(self.notes))
        return [*shown, notes] if shown else []


def read_table(folder: Path) -> EvaluationTable | None:
    """Read evaluation.json in a run's folder; None if it is missing or cannot be read."""
    try:
        content = read_json(folder / EVALUATION)
        sizes = content.pop(SIZES, {})
        content.pop("notes", None)
        parts = []
        for session, splits in content.items():
            for split, rows in splits.items():
                data = sizes.get(session, {}).get(split, {})
                rows = {
                    str(method): {
                        str(k): math.nan if v is None else float(v) for k, v in row.items()
                    }
                    for method, row in rows.items()
                }
                numbers = {str(k): v for k, v in data.items() if isinstance(v, int | float)}
                if LFADS in rows:
                    parts.append(Part(str(session), str(split), rows, {}, numbers))
        return EvaluationTable(parts)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


class Verdict(NamedTuple):
    """A comparison of the model with the best simple method.

    Attributes:
        metric: one of :data:`HEADLINES`.
        split: train or valid.
        ours: the model's score.
        best: name of the best simple method.
        best_value: its score.
        constant: score of a constant rate, or None.
    """

    metric: str
    split: str
    ours: float
    best: str
    best_value: float
    constant: float | None

    @property
    def is_ahead(self) -> bool:
        """Whether the model is ahead of every simple method."""
        return self.ours > self.best_value

    @property
    def is_below_constant(self) -> bool:
        """Whether a constant rate scores higher than the model, in the printed digits."""
        return self.constant is not None and round(self.ours, 3) < round(self.constant, 3)

    def __str__(self) -> str:
        """Return the comparison as a sentence or two."""
        of = HEADLINES[self.metric] + (", on training trials" if self.split == "train" else "")
        if self.is_ahead:
            return (
                f"LFADS is ahead of the simple methods: {self.ours:.3f} {of}; the best of them, "
                f"{self.best}, has {self.best_value:.3f}."
            )
        text = f"A simple method is ahead: {self.best} has {self.best_value:.3f} {of}, LFADS "
        text += f"{self.ours:.3f}."
        if self.is_below_constant:
            text += f" LFADS is worse than a constant rate ({self.constant:.3f})."
        return text


_WEIGHTS = {
    "bits_per_spike": "n_spikes",
    "hidden_bits_per_spike": "n_hidden_spikes",
    "hidden_r2": "n_neurons",
    "hidden_nats": "n_hidden_values",
    "rate_r2": "n_neurons",
    "rate_r2_pooled": "n_neurons",
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
        ("n_hidden_spikes", "spikes among the hidden entries"),
        ("n_hidden_values", "hidden values"),
        ("n_train_trials", "training trials"),
        ("few_shot_trials", "of them for few-shot read-outs"),
        ("lag_bins", "bins of lag to the behaviour"),
    ):
        text += f", {d[key]} {what}" if key in d else ""
    return text


def best_first(rows: Rows) -> Rows:
    """Return the rows sorted by the first score in HEADLINES, best first; the truth on top."""
    compared = next((m for m in HEADLINES if m in rows.get(LFADS, {})), None)

    def key(name: str) -> tuple[bool, float]:
        value = rows[name].get(compared, math.nan) if compared is not None else 0.0
        return name != TRUTH, -value if math.isfinite(value) else math.inf

    return {name: rows[name] for name in sorted(rows, key=key)}


def _rows_shown(title: str, rows: Rows) -> str:
    names = [n for n in NOTES if any(n in row for row in rows.values())]
    head = [n.replace("_per_spike", "/spike").replace("_", " ") for n in names]
    sizes = [max(len(h), 7) for h in head]
    first = max(map(len, rows), default=0) + 2
    lines = [title]
    lines.append(" " * first + "  ".join(h.rjust(s) for h, s in zip(head, sizes, strict=True)))
    for row, values in best_first(rows).items():
        cells = [
            (f"{values[n]:.3f}" if n in values else "-").rjust(s)
            for n, s in zip(names, sizes, strict=True)
        ]
        lines.append(row.ljust(first) + "  ".join(cells))
    return "\n".join(lines)


def _notes_shown(notes: Mapping[str, str]) -> str:
    width = max(map(len, notes), default=0) + 2
    return "\n".join(f"  {name.ljust(width)}{note}" for name, note in notes.items())
