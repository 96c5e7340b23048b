"""Files of a store that a command works on: fetched before, sent back when the work is done."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from lfads_lightning.config import LFADSError
from lfads_lightning.data.arrays import listed
from lfads_lightning.runs.mirrors import local_run
from lfads_lightning.runs.stores import Store, StoreError, is_url, naming, with_addresses

Paths = str | Path | Sequence[str | Path]


@contextmanager
def local_copies() -> Iterator["Copies"]:
    """Give what fetches files of stores to this machine, for as long as it is needed.

    Errors and warnings that come up inside name files by their address.
    """
    with tempfile.TemporaryDirectory(prefix="lfads-") as folder:
        copies = Copies(Path(folder).resolve())
        with naming(copies.addresses):
            yield copies


class Copies:
    """Local copies of files in stores; plain paths pass through unchanged.

    Args:
        folder: empty, holds the copies.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.addresses: dict[str, str] = {}  # of folders in the store, by the local one
        self.outputs: list[Path] = []

    def get(self, path: str | Path) -> Path:
        """Return a file that can be read here.

        Raises:
            LFADSError: there is no such file in the store, or no answer.
        """
        if not is_url(path):
            return Path(path)
        url, _, name = str(path).rpartition("/")
        local = self.folder(url) / name
        if not local.exists():
            here = _names(store := Store(url))
            if name not in here:
                raise LFADSError(f"{path}: no such file; {url} holds {listed(sorted(here))}")
            store.fetch(name, here[name], local)
        return local

    def folder(self, path: str | Path) -> Path:
        """Return the local folder that stands for one of a store; it holds what was got of it."""
        if not is_url(path):
            return Path(path)
        url = str(path).rstrip("/")
        for folder, known in self.addresses.items():
            if known == url:
                return Path(folder)
        local = self.root / f"{len(self.addresses):04d}"  # none is the beginning of another
        local.mkdir()
        self.addresses[str(local)] = url
        return local

    def output(self, path: str | Path) -> Path:
        """Return where a file is to be written here, which :meth:`send` takes to its store."""
        if not is_url(path):
            return Path(path)
        url, _, name = str(path).rpartition("/")
        local = self.folder(url) / name
        self.outputs.append(local)
        return local

    def send(self) -> None:
        """Take what was written to its store: all files of a folder, or none.

        Raises:
            LFADSError: no answer; what was made is kept, and the message says where.
        """
        for local, url in self.addresses.items():
            made = {p.name: p for p in self.outputs if str(p.parent) == local and p.exists()}
            if not made:
                continue
            try:
                Store(url).put_together(made)
            except LFADSError as error:
                kept = local_run(url)
                kept.mkdir(parents=True, exist_ok=True)
                for path in made.values():
                    shutil.copyfile(path, kept / path.name)
                raise StoreError(
                    f"{error}. Nothing is lost: {listed(sorted(made))} are in {kept}; copy "
                    "them there"
                ) from error

    def named(self, text: str) -> str:
        """Return a text with addresses where it has paths of copies."""
        return with_addresses(text, self.addresses)


def expanded(paths: Paths) -> list[str | Path]:
    """Replace addresses with ``*`` or ``?`` in their last part by those of the files they match.

    Shells do so for paths, but not for addresses.

    Raises:
        LFADSError: none matches, or the store does not answer.
    """
    found: list[str | Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        url, _, pattern = str(path).rpartition("/")
        if not is_url(path) or not any(mark in pattern for mark in "*?["):
            found.append(path)
            continue
        here = _names(Store(url))
        names = sorted(name for name in here if fnmatchcase(name, pattern))
        if not names:
            raise LFADSError(f"{path}: no file matches; {url} holds {listed(sorted(here))}")
        found += [f"{url}/{name}" for name in names]
    return found


def beside(path: str | Path, name: str) -> str | Path:
    """Return the path, or the address, of a file beside another."""
    return f"{str(path).rpartition('/')[0]}/{name}" if is_url(path) else Path(path).parent / name


def within(folder: str | Path, name: str) -> str | Path:
    """Return the path, or the address, of a file in a folder."""
    return f"{str(folder).rstrip('/')}/{name}" if is_url(folder) else Path(folder) / name


def _names(store: Store) -> dict[str, int]:
    return {name: size for name, size in store.list().items() if "/" not in name}
