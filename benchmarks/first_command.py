"""The first command on a recording, as README and site show it: what it prints, and a figure.

    python -m benchmarks.first_command RECORDING [--docs]

Prepares the recording and trains on it with nothing set, in a folder of its own, and prints what
the shell shows from the scores on. ``--docs`` writes that to docs/first-command.txt, puts it into
README.md and docs/quickstart.md in place of what stands there, and the figure of single trials over
their averages into docs/first-command.png. That of the repository is of macaque_pmd_day31_20ms.npz,
a delayed reach (MiklosKralik/minLFADS, MIT licence), as ``reach.npz``.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", DOCS / "quickstart.md")
NAME = "reach"  # under which the recording is shown
VERBS = (
    ("prepare", f"{NAME}.npz", "--out", "data"),
    ("train", "data.data_dir=data", f"data.data_filename_stem={NAME}"),
)
FENCE = "```text\n$ lfads prepare"


def main() -> None:
    """Run the two commands, and show what they end with."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--docs", action="store_true", help="write it to README and site")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(given.recording, Path(folder, f"{NAME}.npz"))
        told = "".join(shown(verb, *words, folder=folder) for verb, *words in VERBS)
        print(told)
        if given.docs:
            (DOCS / "first-command.txt").write_text(told, encoding="utf-8")
            (figure,) = Path(folder).glob("outputs/*/*/figures/averages.png")
            shutil.copy(figure, DOCS / "first-command.png")
            for page in PAGES:
                put_into(page, told)


def shown(verb: str, *words: str, folder: str) -> str:
    """Run a command; return it with what it prints, of training the end from the scores on."""
    code = f"import sys; from lfads_lightning.cli import {verb} as verb; sys.exit(verb.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    if "Scores:" in lines:
        lines = lines[lines.index("Scores:") + 1 :]
        numbers = [k for k, line in enumerate(lines) if line.startswith("  ") and k > 2]
        del lines[numbers[0] : numbers[-1] + 2]  # costs and counts of the run
    return "\n".join([f"$ lfads {verb} {' '.join(words)}", *lines]) + "\n"


def put_into(page: Path, told: str) -> None:
    """Put it into a page, in place of the block that shows it."""
    text = page.read_text(encoding="utf-8")
    new, n = re.subn(rf"^{re.escape(FENCE)}(?:.*\n)*?```$", "@", text, flags=re.M)
    assert n == 1, page
    page.write_text(new.replace("@", f"```text\n{told}```", 1), encoding="utf-8")


if __name__ == "__main__":
    main()
