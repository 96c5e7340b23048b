"""The command line: the only place that knows Hydra."""

import sys

from lfads_lightning import commands

__all__ = ["main"]


@commands.command
def main() -> None:
    """Run ``python train.py ...`` and ``lfads-train ...``."""
    if "--version" in sys.argv[1:]:  # Hydra would say its own
        print(commands.version_text())
        return
    # Hydra's import takes a third of a second, and longer on a busy network drive
    from lfads_lightning.cli import command

    command.main()
