"""``lfads-evaluate RUN``: a run's model beside simple methods, as a table or as JSON."""

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from lfads_lightning import params
from lfads_lightning.commands import add_version, command
from lfads_lightning.config import LFADSError
from lfads_lightning.evaluation.table import NOTES
from lfads_lightning.runs.remote import is_url, path_or_address
from lfads_lightning.runs.run import CONFIG, EVALUATION, Run

NARROWER = ("session", "split", "samples", "lag-bins", "metrics", "checkpoint")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line; a user's mistake ends with one line."""
    run(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, NOTES)) + 2
    parser = argparse.ArgumentParser(
        prog="lfads-evaluate",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Score a trained model, and simple methods beside it, on held-out trials of "
        f"the run's data. Writes {EVALUATION} to the run's folder; scores of other data go to a "
        "file of their own beside it.",
        epilog="metrics:\n" + "\n".join(f"  {n.ljust(width)}{note}" for n, note in NOTES.items()),
    )
    add_version(parser)
    parser.add_argument(
        "run", type=path_or_address, help="folder of a training run or of a search (also s3://…)"
    )
    parser.add_argument("--session", nargs="+", metavar="NAME", help="these sessions alone")
    parser.add_argument("--split", choices=("train", "valid"), help="default: valid, if any")
    parser.add_argument(
        "--samples",
        type=int,
        default=None,
        metavar="N",
        help="posterior samples averaged per trial (default: the run's num_score_samples, 16); 0: "
        "posterior means",
    )
    parser.add_argument(
        "--lag-bins",
        type=int,
        default=0,
        metavar="N",
        help="behaviour of bin t + N is read from the rates of bin t (default: 0)",
    )
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="these alone; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--data-dir", help="other data than the run's: their folder")
    parser.add_argument("--stem", help="other data than the run's: their file names' beginning")
    parser.add_argument(
        "--checkpoint",
        metavar="INDEX",
        help="checkpoint or checkpoint_lve; default: the lowest validation error's, if any",
    )
    parser.add_argument("--device", default="cpu:0", help="as trainer.device (default: cpu:0)")
    return parser


def run(given: argparse.Namespace) -> None:
    """Evaluate what the command line names, print it, and write it to the run's folder.

    Raises:
        LFADSError: no such run, no checkpoint in it, its data are gone; what evaluating raises.
    """
    named = Run.open(given.run)
    run, config = _trained_run(named)
    if given.samples is not None and given.samples < 0:
        raise LFADSError(f"--samples is {given.samples}; expected a number >= 0")
    # torch is imported only now: help and mistakes take 0.3 s
    from lfads_lightning.data.datamodule import load_data
    from lfads_lightning.evaluation.scores import evaluate
    from lfads_lightning.inference.trained import load
    from lfads_lightning.training.checkpoints import LOWEST, PERIODIC, find_checkpoint
    from lfads_lightning.training.loop import one_setting_of_threads

    index = given.checkpoint or (LOWEST if find_checkpoint(run.folder, LOWEST) else PERIODIC)
    trained = load(run.folder, index, given.device)
    own = _data_of(config)
    if given.data_dir is not None:
        config.data.data_dir = given.data_dir
    else:
        run.check_data_place(config.data.data_dir, "--data-dir")
    if given.stem is not None:
        config.data.data_filename_stem = given.stem
    sessions = load_data(config)
    if given.session:
        there = {s.name: s for s in sessions}
        if strangers := [name for name in given.session if name not in there]:
            raise LFADSError(
                f"--session {strangers[0]}: the data hold {', '.join(there)}; give one of these"
            )
        sessions = [there[name] for name in given.session]
    if given.samples is not None:
        trained.config.sampling.num_score_samples = given.samples
    with one_setting_of_threads(config.trainer.num_threads):
        table = evaluate(
            trained,
            sessions,
            split=given.split,
            lag_bins=given.lag_bins,
            only=given.metrics,
        )
    now = _data_of(config)
    file, is_other = (EVALUATION, False) if now == own else (_file_of(*now), True)
    usual = _parser()
    narrowed = [
        f"--{option}"
        for option in NARROWER
        if vars(given)[key := option.replace("-", "_")] != usual.get_default(key)
    ]
    replaced = (run.folder / file).exists()
    with named.mirrored():
        path = table.write(run.folder, file)
    if given.json:
        print(json.dumps(table.to_dict(), indent=1))
    else:
        print(f"{table}\nWritten to {path}{_beside(is_other, replaced, narrowed)}")


def _data_of(config: params.Config) -> tuple[str, str]:
    """Return where a run's data are, and their stem."""
    folder = config.data.data_dir or ""
    if folder and not is_url(folder):
        folder = str(Path(folder).expanduser().resolve())
    return folder.rstrip("/"), config.data.data_filename_stem


def _file_of(folder: str, stem: str) -> str:
    """Return the file for scores of other data than the run's: its own stay as they are."""
    label = re.sub(r"[^\w.-]+", "_", "_".join(filter(None, (Path(folder).name, stem))))[:80]
    digest = hashlib.sha256(f"{folder}\n{stem}".encode()).hexdigest()[:6]
    return f"{Path(EVALUATION).stem}_of_{label}_{digest}.json"


def _beside(is_other: bool, replaced: bool, narrowed: Sequence[str]) -> str:
    """Say what became of the file that was there."""
    if is_other:
        return f"; {EVALUATION}, of the run's own data, stays as it is"
    if replaced and narrowed:
        return f", instead of what was there; it holds what {' '.join(narrowed)} asks for alone"
    return ""


def _trained_run(run: Run) -> tuple[Run, params.Config]:
    """Return a run, or that of a search's best member, and its parameters.

    Raises:
        LFADSError: there is no run.
    """
    run = run.chosen()
    if not run.folder.is_dir():
        raise LFADSError(f"{run.folder}: no such folder; give the folder of a training run")
    config = run.read_config()
    if config is None:
        raise LFADSError(
            f"{run.folder}: holds no run ({CONFIG} is missing); give the folder that training "
            "printed last"
        )
    return run, config
