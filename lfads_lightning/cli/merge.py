"""``lfads merge``: merge the results of overlapping chops into whole recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.programs import command
from lfads_lightning.commands import option
from lfads_lightning.config import POSTERIOR_KINDS
from lfads_lightning.runs.names import RESULTS

DESCRIPTION = (
    "Merge the results of overlapping chops (kind=posterior_...) into whole recordings. Writes one "
    f"{RESULTS}_SESSION_merged_KIND.h5 per session to the run's folder."
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which results to merge."""

    run: str | Path = option(doc="folder of the run", metavar="RUN", positional=True)
    data_dir: str | Path | None = option(
        None, "folder of the session files (default: the run's data.data_dir)", also=["--data"]
    )
    kind: str | None = option(
        None, "which results to merge (default: all that the run has)", choices=POSTERIOR_KINDS
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
