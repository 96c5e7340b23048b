"""The command line: the only place that knows Hydra."""

from lfads_lightning.cli.command import main

__all__ = ["main"]
