"""Recordings and runs in a bucket: ``s3://bucket/prefix``, or another store that fsspec knows.

Session files and parameter files are fetched and read. A run trains in a folder of this machine,
``outputs/s3/bucket/prefix`` under the working folder, and is copied to the store after each
periodic checkpoint and at its end. The local folder stays, so that a run whose store does not
answer has lost nothing.

``.store.json`` in the local folder says where it belongs, and which state of each file the store
has. ``.writer.json`` in the store says which local folder wrote there last, so that two machines
never mix one run's files.
"""

import json
import logging
import re
import socket
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from lfads_lightning.config import LFADSError
from lfads_lightning.files import whole_file

WAITS_S = (1.0, 3.0, 9.0)  # before the second, third and fourth try
STATE, WRITER = ".store.json", ".writer.json"
Result = TypeVar("Result")

# their objects appear whole or not at all; elsewhere a copy is renamed once it is there
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}
_EXTRAS = {"s3": "s3", "s3a": "s3"}
_NO_USE_TO_TRY_AGAIN = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "ParamValidationError",
}


class StoreError(LFADSError):
    """A store that does not answer, or belongs to another now."""


def is_url(path: object) -> bool:
    """Return whether a path lies in a store."""
    return re.match(r"[a-z][a-z0-9+.-]+://", str(path)) is not None


class Store:
    """The files under one address; every call tries again where the connection fails.

    Args:
        url: ``protocol://bucket/prefix``.

    Raises:
        LFADSError: unknown protocol, a missing extra, or no bucket.
    """

    def __init__(self, url: str) -> None:
        self.protocol, _, path = url.partition("://")
        path = path.rstrip("/")
        self.url = f"{self.protocol}://{path}"
        if not path or ".." in PurePosixPath(path).parts:
            raise LFADSError(f"{url}: expected {self.protocol}://BUCKET/PREFIX, without '..'")
        import fsspec

        # a dead server is noticed in seconds, and it is we who try again
        options: dict[str, Any] = {}
        if self.protocol in ("s3", "s3a"):
            for name in ("botocore", "aiobotocore"):  # they tell where they found the credentials
                logging.getLogger(name).setLevel(logging.WARNING)
            limits = {"connect_timeout": 5, "read_timeout": 60}
            options = {"config_kwargs": limits | {"retries": {"total_max_attempts": 1}}}
        try:
            self.fs = fsspec.filesystem(self.protocol, use_listings_cache=False, **options)
        except ImportError as error:
            extra = _EXTRAS.get(self.protocol)
            found = f'pip install "lfads-lightning[{extra}]"' if extra else f"({error})"
            raise LFADSError(f"{url}: needs a package that is not installed: {found}") from error
        except ValueError as error:
            raise LFADSError(
                f"{url}: {self.protocol}:// is no store that fsspec knows; expected s3://, gs://, "
                "…, or the path of a folder"
            ) from error
        if self.protocol in ("s3", "s3a"):
            self.fs.retries = 1
        self.path = str(self.fs._strip_protocol(self.url)).rstrip("/")

    def list(self) -> dict[str, int]:
        """Return the size of every file in bytes, by its path below the address.

        Hidden files are left out.

        Raises:
            LFADSError: no answer, or a name that leads out of the folder.
        """
        found = self._persistently("list", lambda: self.fs.find(self.path, detail=True))
        sizes = {}
        for path, info in found.items():
            name = path.removeprefix(self.path).lstrip("/")
            parts = PurePosixPath(name).parts
            if not parts or any(part.startswith(".") and part != ".." for part in parts):
                continue
            if ".." in parts or "\\" in name:
                raise LFADSError(f"{self.url}: holds a file called {name!r}; remove or rename it")
            sizes[name] = int(info["size"])
        return sizes

    def fetch(self, name: str, size: int, to: Path) -> None:
        """Copy a file of ``size`` bytes from the store; ``to`` is written whole or not at all."""

        def copy() -> None:
            self.fs.get_file(f"{self.path}/{name}", str(path))
            if path.stat().st_size != size:
                raise ConnectionError(f"{path.stat().st_size} of {size} bytes arrived")

        with whole_file(to) as path:  # around all tries: it takes a lost connection for a bad disk
            self._persistently(f"read {name} from", copy)

    def put(self, file: Path, name: str) -> None:
        """Copy a file to the store, and look whether it has arrived."""
        target = f"{self.path}/{name}"

        def copy() -> None:
            size = file.stat().st_size
            if self.protocol in _OBJECT_STORES:
                self.fs.put_file(str(file), target)
            else:
                beside = str(PurePosixPath(target).with_name(f".{file.name}.part"))
                self.fs.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
                self.fs.put_file(str(file), beside)
                self.fs.mv(beside, target)
            arrived = self.fs.info(target)["size"]
            if not size <= arrived <= file.stat().st_size:  # a log may have grown meanwhile
                raise ConnectionError(f"{arrived} of {size} bytes arrived")

        self._persistently(f"write {name} to", copy)

    def remove(self, name: str) -> None:
        """Remove a file."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self.fs.rm_file(f"{self.path}/{name}")

        self._persistently(f"remove {name} from", remove)

    def read(self, name: str) -> bytes | None:
        """Return what a file holds; None where there is none."""

        def read() -> bytes | None:
            try:
                return self.fs.cat_file(f"{self.path}/{name}")
            except FileNotFoundError:
                return None

        return self._persistently(f"read {name} from", read)

    def _persistently(self, what: str, act: Callable[[], Result]) -> Result:
        for wait in (*WAITS_S, None):
            try:
                return act()
            except LFADSError:
                raise
            except Exception as error:  # each store raises types of its own
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                refused = isinstance(error, PermissionError | FileNotFoundError)
                if refused or type(error).__name__ in _NO_USE_TO_TRY_AGAIN:
                    raise LFADSError(
                        f"{self.url}: cannot {what} it ({reason}); look at the address, and at the "
                        "credentials (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or aws "
                        "configure)"
                    ) from error
                if wait is None:
                    raise StoreError(
                        f"{self.url}: no answer to the wish to {what} it, after "
                        f"{len(WAITS_S) + 1} tries ({reason}); see whether the store can be reached"
                    ) from error
                print(f"{self.url}: {reason}; next try in {wait:g} s", file=sys.stderr, flush=True)
                time.sleep(wait)
        raise AssertionError


def read_text(url: str) -> str:
    """Return a text file of a store.

    Raises:
        LFADSError: there is none, or it is no text.
    """
    folder, _, name = url.rpartition("/")
    content = Store(folder).read(name)
    if content is None:
        raise LFADSError(f"{url}: no such file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise LFADSError(f"{url}: is no text ({error})") from error


@contextmanager
def fetched(url: str, is_wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Give a temporary folder with those files of a store whose names are wanted.

    Errors and warnings that come up inside name the files by their address. Files with other names
    are there, empty, so that an error can list them.
    """
    store = Store(url)
    with tempfile.TemporaryDirectory(prefix="lfads-") as folder:
        here = {n: size for n, size in store.list().items() if "/" not in n}
        if not here:
            raise LFADSError(f"{url}: holds no files; data_dir must be the folder of the sessions")
        wanted = {n: size for n, size in here.items() if is_wanted(n)}
        megabytes = sum(wanted.values()) / 1e6
        print(f"Fetching {url} ({len(wanted)} files, {megabytes:.1f} MB)", file=sys.stderr)
        for name, size in here.items():
            if name in wanted:
                store.fetch(name, size, Path(folder) / name)
            else:
                (Path(folder) / name).touch()
        caught: list[warnings.WarningMessage] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                yield Path(folder)
        except LFADSError as error:
            raise LFADSError(str(error).replace(folder, store.url)) from error
        finally:
            for warning in caught:
                said = str(warning.message).replace(folder, store.url)
                warnings.warn(said, warning.category, stacklevel=2)


def local_run(path: str | Path) -> Path:
    """Return the folder of this machine in which a run lives; for a plain path, itself."""
    if not is_url(path):
        return Path(path)
    protocol, _, rest = str(path).rstrip("/").partition("://")
    return Path("outputs") / protocol / rest


def open_run(path: str | Path) -> Path:
    """Bring a run of a store to its local folder, as far as it is not there; return the folder.

    A plain path is returned as it is.

    Raises:
        LFADSError: the store does not answer, or both copies went on since they were last alike.
    """
    if not is_url(path):
        return Path(path)
    mirror = Mirror(local_run(path), str(path))
    mirror.pull()
    return mirror.folder


class Mirror:
    """A run's local folder and its copy in a store.

    Args:
        folder: the local one.
        url: of the store; null: as the folder's ``.store.json`` says.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        try:
            self.state = json.loads((folder / STATE).read_text())
        except FileNotFoundError:
            self.state = {"url": url, "id": uuid.uuid4().hex, "before": None, "files": {}}
        except ValueError as error:
            raise LFADSError(f"{folder / STATE}: is damaged ({error}); remove it") from error
        self.store = Store(url or self.state["url"])

    def pull(self) -> None:
        """Fetch what another machine, or nobody from here, has written to the store.

        Raises:
            LFADSError: the local copy went on too.
        """
        theirs, writer = self.store.list(), self._writer()
        ours = writer is not None and writer["id"] == self.state["id"]
        files = self._files()
        went_on = [name for name, stamp in files.items() if self.state["files"].get(name) != stamp]
        if theirs and not ours and went_on:
            since = "" if writer is None else f", by {writer['host']} at {writer['time']}"
            raise LFADSError(
                f"{self.store.url}: was written to from elsewhere{since}, and {self.folder} holds "
                f"{len(went_on)} files that are not there ({went_on[0]}); move the local folder "
                "away to go on from the store, or go on in another output.lfads_save_dir"
            )
        for name, size in theirs.items():
            if not ours or name not in files:
                self.store.fetch(name, size, self.folder / name)
        if theirs and not ours:
            for name in files.keys() - theirs.keys():
                (self.folder / name).unlink()  # unchanged since the store had it, and dropped there
            self.state |= {"files": self._files(), "before": writer}
        # what the store has lost will be copied again
        self.state["files"] = {n: s for n, s in self.state["files"].items() if n in theirs}
        self._write_state()

    def push(self) -> None:
        """Copy to the store what has changed; indexes last, then remove there what is gone here.

        Raises:
            LFADSError: no answer, or another machine has taken the run over.
        """
        self._claim()
        known, files = self.state["files"], self._files()
        for name in sorted(files, key=lambda n: (n.endswith(".json"), n)):
            if known.get(name) != files[name] and (self.folder / name).is_file():
                self.store.put(self.folder / name, name)
                known[name] = files[name]
                self._write_state()
        for name in [n for n in known if n not in files]:
            self.store.remove(name)
            del known[name]
            self._write_state()

    def _claim(self) -> None:
        writer = self._writer()
        if writer is not None and writer["id"] == self.state["id"]:
            return
        if writer != self.state["before"] and writer is not None:
            raise StoreError(
                f"{self.store.url}: {writer['host']} has been writing this run since "
                f"{writer['time']}; {self.folder} is kept as it is; end one of the two"
            )
        me = {
            "id": self.state["id"],
            "host": socket.gethostname(),
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / WRITER).write_text(json.dumps(me))
            self.store.put(Path(folder) / WRITER, WRITER)

    def _writer(self) -> dict[str, str] | None:
        content = self.store.read(WRITER)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            raise LFADSError(
                f"{self.store.url}/{WRITER}: is damaged ({error}); remove it"
            ) from error

    def _files(self) -> dict[str, list[int]]:
        """Return size and time of every local file; hidden ones, unfinished among them, are out."""
        files = {}
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                stat = path.stat()
                files[relative.as_posix()] = [stat.st_size, stat.st_mtime_ns]
        return files

    def _write_state(self) -> None:
        with whole_file(self.folder / STATE) as path:
            path.write_text(json.dumps(self.state))


def mirror_of(folder: Path) -> Mirror | None:
    """Return the mirror of a run's folder; None where it belongs to no store."""
    return Mirror(folder) if (folder / STATE).is_file() else None


@contextmanager
def mirrored(folder: Path) -> Iterator[None]:
    """Copy what a run has written to its store at the end, also where the run fails."""
    mirror = mirror_of(folder)
    if mirror is None:
        yield
        return
    try:
        yield
    except StoreError:
        raise  # there is no use to try once more
    except BaseException:
        try:
            mirror.push()
        except LFADSError as error:
            print(f"{error}. All is kept in {folder}", file=sys.stderr, flush=True)
        raise
    _push(mirror)


def push(folder: Path) -> None:
    """Copy what a run has written so far to its store, where it has one.

    Raises:
        LFADSError: no answer; says how to go on.
    """
    mirror = mirror_of(folder)
    if mirror is not None:
        _push(mirror)


def _push(mirror: Mirror) -> None:
    try:
        mirror.push()
    except LFADSError as error:
        raise StoreError(
            f"{error}. Nothing is lost: all is in {mirror.folder}. To go on: python train.py "
            f"resume={mirror.store.url}"
        ) from error
