"""``lfads train``, the same as ``python train.py``: train a model, or use one that is trained."""

import sys

from lfads_lightning.cli.programs import command, version_text


@command
def main() -> None:
    """Run ``lfads train ...``; a user's mistake ends with one line."""
    if "--version" in sys.argv[1:]:  # Hydra would say its own
        print(version_text())
        return
    # Hydra's import takes a third of a second, and longer on a busy network drive
    from lfads_lightning.cli import hydra_run

    hydra_run.main()
