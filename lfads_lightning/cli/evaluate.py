"""``lfads evaluate``: compare a run's model with simple methods, as a table or as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lfads_lightning.cli.options import Parser, typed_name
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option
from lfads_lightning.config import LFADSError
from lfads_lightning.evaluation.table import NOTES
from lfads_lightning.runs.names import EVALUATION

if TYPE_CHECKING:
    from lfads_lightning.evaluation.evaluate_run import Evaluated

DESCRIPTION = (
    "Score a trained model and simple methods on held-out trials of the run's data. Writes "
    f"{EVALUATION} to the run's folder; scores on other data go to a separate file there."
)
NARROWER = ("session", "split", "samples", "lag_bins", "metrics", "checkpoint")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which run to score, and how."""

    run: str | Path = option(
        doc="folder of a training run or a search (also s3://…)", metavar="RUN", positional=True
    )
    session: tuple[str, ...] = option((), "score only these sessions")
    split: str | None = option(
        None, "trials to score (default: valid, if there are any)", choices=("train", "valid")
    )
    samples: int | None = option(
        None,
        "posterior samples averaged per trial (default: the run's num_score_samples, 16); 0: use "
        "the posterior means",
    )
    lag_bins: int = option(0, "decode the behaviour of bin t + N from the rates of bin t")
    metrics: tuple[str, ...] = option((), "compute only these (default: all)")
    json: bool = option(False, "print JSON instead of the table")
    data_dir: str | None = option(
        None, "folder of other data than the run was trained on", metavar="PATH"
    )
    stem: str | None = option(None, "beginning of the file names of other data")
    checkpoint: str | None = option(
        None,
        "checkpoint (latest) or checkpoint_lve (lowest validation error; the default, if there is "
        "one)",
        metavar="INDEX",
    )
    device: str = option("cpu:0", "device, as trainer.device")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lfads evaluate ...``; a user's mistake ends with one line."""
    width = max(map(len, NOTES)) + 2
    metrics = "metrics:\n" + "\n".join(f"  {n.ljust(width)}{note}" for n, note in NOTES.items())
    options = Options(**Parser("evaluate", DESCRIPTION, Options, epilog=metrics).given(argv))
    if options.samples is not None and options.samples < 0:
        raise LFADSError(f"--samples is {options.samples}; expected a number >= 0")
    # numpy and h5py are imported once the command line is known to be right
    from lfads_lightning.evaluation.evaluate_run import evaluate_run
    from lfads_lightning.runs.run import Run

    done = evaluate_run(
        Run.open(options.run),
        session=options.session,
        split=options.split,
        samples=options.samples,
        lag_bins=options.lag_bins,
        metrics=options.metrics,
        data_dir=options.data_dir,
        stem=options.stem,
        checkpoint=options.checkpoint,
        device=options.device,
    )
    if options.json:
        print(json.dumps(done.table.to_dict(), indent=1))
    else:
        print(f"{done.table}\nWritten to {done.path}{_file_note(done, options)}")


def _file_note(done: "Evaluated", options: Options) -> str:
    """Return a note on what happened to an earlier file."""
    if done.is_of_other_data:
        return f"; {EVALUATION}, with the scores on the run's own data, is unchanged"
    usual = {f.name: f.default for f in dataclasses.fields(Options)}
    narrowed = [typed_name(n) for n in NARROWER if getattr(options, n) != usual[n]]
    if done.replaced and narrowed:
        return f"; it replaces the old file, and holds only what {' '.join(narrowed)} selects"
    return ""
