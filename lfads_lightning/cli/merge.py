"""``lfads merge``: what a run makes of overlapping chops, as whole recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option
from lfads_lightning.config import POSTERIOR_KINDS
from lfads_lightning.runs.names import RESULTS

DESCRIPTION = (
    "Merge what a run makes of overlapping chops (kind=posterior_...) into whole recordings: one "
    f"{RESULTS}_SESSION_merged_KIND.h5 for each session, in the run's folder."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which results, and of which data."""

    run: str | Path = option(doc="the run's folder", metavar="RUN", positional=True)
    data_dir: str | Path | None = option(
        None, "folder of the session files (default: the run's data.data_dir)", also=["--data"]
    )
    kind: str | None = option(
        None, "whose outputs (default: all that are there)", choices=POSTERIOR_KINDS
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lfads merge ...``; a user's mistake ends with one line."""
    options = Options(**Parser("merge", DESCRIPTION, Options).given(argv))
    # numpy and h5py are imported once the command line is known to be right
    from lfads_lightning.recordings.merged_runs import merge_run
    from lfads_lightning.runs.run import Run

    run = Run.open(options.run)
    with run.mirrored():
        for path in merge_run(run.folder, options.data_dir, options.kind):
            print(path)
