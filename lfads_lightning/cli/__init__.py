"""The command line: the only place that knows Hydra."""

from lfads_lightning import commands

__all__ = ["main"]


@commands.command
def main() -> None:
    """Run ``python train.py ...`` and ``lfads-train ...``."""
    # Hydra's import takes a third of a second, and longer on a busy network drive
    from lfads_lightning.cli import command

    command.main()
