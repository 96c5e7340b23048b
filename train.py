"""Train and use LFADS from the command line: python train.py --help."""

from lfads_lightning.cli.train import main

if __name__ == "__main__":
    main()
