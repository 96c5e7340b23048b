"""The command line: the only place that knows Hydra."""

from lfads_lightning import signals

__all__ = ["main"]


def main() -> None:
    """Run ``python train.py ...`` and ``lfads-train ...``."""
    with signals.end_the_program():
        # Hydra's import takes a third of a second, and longer on a busy network drive
        from lfads_lightning.cli import command

        command.main()
