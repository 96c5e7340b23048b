"""Files in a bucket: ``s3://bucket/prefix``, or another store that fsspec knows.

A command works on local copies: files are fetched first, and results are sent back at the end. Only
addresses that the user has typed are contacted. For runs in a store see ``mirrors.py``.
"""

import inspect
import logging
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from lfads_lightning.commands import listed
from lfads_lightning.config import LFADSError
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.web import download, is_web

WAITS_S = (1.0, 3.0, 9.0)  # before the second, third and fourth attempt
Result = TypeVar("Result")
Paths = str | Path | Sequence[str | Path]

# their objects appear whole or not at all; in other stores a copy is renamed once complete
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"}
_EXTRAS = {"s3": "s3", "s3a": "s3"}
# other protocols of fsspec: this machine's own files and memory, and wrappers around others
NO_STORES = {
    "blockcache", "cached", "data", "dir", "file", "filecache", "generic", "git", "jar",
    "libarchive", "local", "memory", "reference", "simplecache", "tar", "zip",
}  # fmt: skip
_NO_USE_TO_TRY_AGAIN = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "ParamValidationError",
}


class StoreError(LFADSError):
    """A store does not answer, or another machine has taken it over."""


def is_url(path: object) -> bool:
    """Return whether a path lies in a store."""
    return re.match(r"[a-z][a-z0-9+.-]+://", str(path)) is not None


def path_or_address(given: str | Path) -> str | Path:
    """Return an address unchanged, anything else as a path (``Path`` would drop a ``/``)."""
    return str(given) if is_url(given) else Path(given)


def local_run(path: str | Path) -> Path:
    """Return the local folder of a run in a store; a plain path is returned as it is."""
    if not is_url(path):
        return Path(path)
    protocol, _, rest = str(path).rstrip("/").partition("://")
    return Path("outputs") / protocol / rest


class Store:
    """The files under one address; every call tries again if the connection fails.

    Args:
        url: ``protocol://bucket/prefix``.

    Raises:
        LFADSError: unknown protocol, a missing extra, or no bucket.
    """

    def __init__(self, url: str) -> None:
        self.protocol, _, path = url.partition("://")
        path = path.rstrip("/")
        self.url = f"{self.protocol}://{path}"
        if self.protocol in NO_STORES or "::" in url:
            raise LFADSError(
                f"{url}: is not the address of a store; expected s3://BUCKET/PREFIX, gs://, …, or "
                "the path of a folder without any ://"
            )
        if not path or ".." in PurePosixPath(path).parts:
            raise LFADSError(f"{url}: expected {self.protocol}://BUCKET/PREFIX, without '..'")
        import fsspec

        # notice a dead server within seconds; repeated attempts are ours, not the library's
        options: dict[str, Any] = {}
        if self.protocol in ("s3", "s3a"):
            for name in ("botocore", "aiobotocore"):  # they log where they found the credentials
                logging.getLogger(name).setLevel(logging.WARNING)
            limits = {"connect_timeout": 5, "read_timeout": 60}
            options = {"config_kwargs": limits | {"retries": {"total_max_attempts": 1}}}
        try:
            more = _required(fsspec.get_filesystem_class(self.protocol))
            if more:
                raise LFADSError(
                    f"{url}: {self.protocol}:// needs more than an address ({', '.join(more)}); "
                    "expected s3://, gs://, …, or the path of a folder"
                )
            self.fs = fsspec.filesystem(self.protocol, use_listings_cache=False, **options)
        except ImportError as error:
            extra = _EXTRAS.get(self.protocol)
            found = f'pip install "lfads-lightning[{extra}]"' if extra else f"({error})"
            raise LFADSError(f"{url}: needs a package that is not installed: {found}") from error
        except LFADSError:
            raise
        except ValueError as error:
            raise LFADSError(
                f"{url}: {self.protocol}:// is not known to fsspec; expected s3://, gs://, "
                "…, or the path of a folder"
            ) from error
        except Exception as error:  # a library or token is missing; every store has its own error
            raise LFADSError(
                f"{url}: {self.protocol}:// cannot be opened by its address "
                f"({' '.join(str(error).split())[:200] or type(error).__name__}); expected s3://, "
                "gs://, …, or the path of a folder"
            ) from error
        if self.protocol in ("s3", "s3a"):
            self.fs.retries = 1
        self.path = str(self.fs._strip_protocol(self.url)).rstrip("/")

    def list(self) -> dict[str, int]:
        """Return the size of every file in bytes, by its path below the address.

        Hidden files are left out.

        Raises:
            LFADSError: the store does not answer, or a name leads out of the folder.
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

    def names(self) -> dict[str, int]:
        """Return the size of the files in the folder itself, by name."""
        return {name: size for name, size in self.list().items() if "/" not in name}

    def fetch(self, name: str, size: int, to: Path) -> None:
        """Copy a file of ``size`` bytes from the store; ``to`` is written whole or not at all."""

        def copy() -> None:
            self.fs.get_file(f"{self.path}/{name}", str(path))
            if path.stat().st_size != size:
                raise ConnectionError(f"{path.stat().st_size} of {size} bytes arrived")

        with whole_file(to) as path:  # it would report a lost connection as a disk error
            self._persistently(f"read {name} from", copy)

    def put(self, file: Path, name: str) -> None:
        """Copy a file to the store, and check that it has arrived."""
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

    def put_together(self, files: Mapping[str, Path]) -> None:
        """Copy files to the store under temporary names, and rename them once all have arrived."""
        if len(files) == 1:
            return self.put(*next((file, name) for name, file in files.items()))
        parts = {name: f"{name.rpartition('/')[0]}/.{file.name}.part".lstrip("/")
                 for name, file in files.items()}  # fmt: skip
        try:
            for name, file in files.items():
                self.put(file, parts[name])
            for name, part in parts.items():
                source, target = f"{self.path}/{part}", f"{self.path}/{name}"
                self._persistently(f"write {name} to", partial(self.fs.copy, source, target))
        finally:
            with suppress(LFADSError):
                for part in parts.values():
                    self.remove(part)

    def remove(self, name: str) -> None:
        """Remove a file."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self.fs.rm_file(f"{self.path}/{name}")

        self._persistently(f"remove {name} from", remove)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""

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
            except Exception as error:  # each store raises its own types
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                refused = isinstance(error, PermissionError | FileNotFoundError)
                if refused or type(error).__name__ in _NO_USE_TO_TRY_AGAIN:
                    raise LFADSError(
                        f"{self.url}: cannot {what} it ({reason}); check the address and the "
                        "credentials (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or aws "
                        "configure)"
                    ) from error
                if wait is None:
                    raise StoreError(
                        f"{self.url}: could not {what} it in {len(WAITS_S) + 1} attempts "
                        f"({reason}); check that the store can be reached"
                    ) from error
                print(f"{self.url}: {reason}; retry in {wait:g} s", file=sys.stderr, flush=True)
                time.sleep(wait)
        raise AssertionError


def _required(filesystem: type) -> list[str]:
    """Return what a file system needs besides an address: host, token and so on."""
    options = list(inspect.signature(filesystem.__init__).parameters.values())[1:]  # type: ignore[misc]
    named = [p for p in options if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in named if p.default is p.empty]


def read_text(url: str) -> str:
    """Return the content of a text file in a store.

    Raises:
        LFADSError: there is no such file, or it is not text.
    """
    folder, _, name = url.rpartition("/")
    content = Store(folder).read(name)
    if content is None:
        raise LFADSError(f"{url}: no such file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise LFADSError(f"{url}: is not a text file ({error})") from error


@contextmanager
def naming(addresses: Mapping[str, str]) -> Iterator[None]:
    """Let errors and warnings raised inside name addresses in place of the paths of local copies.

    Args:
        addresses: addresses by the path of the local folder, in the order of replacement.
    """
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    except LFADSError as error:
        raise type(error)(with_addresses(str(error), addresses)) from error
    finally:
        for warning in caught:
            said = with_addresses(str(warning.message), addresses)
            warnings.warn(said, warning.category, stacklevel=2)


def with_addresses(text: str, addresses: Mapping[str, str]) -> str:
    """Return a text with local folders replaced by their addresses."""
    for local, url in addresses.items():
        text = text.replace(local, url)
    return text


@contextmanager
def local_copies() -> Iterator["Copies"]:
    """Yield local copies of files in stores, which are removed afterwards.

    Errors and warnings raised inside name files by their address.
    """
    with tempfile.TemporaryDirectory(prefix="lfads-") as folder:
        copies = Copies(Path(folder).resolve())
        with naming(copies.addresses):
            yield copies


class Copies:
    """Local copies of files in stores; plain paths pass through unchanged.

    Args:
        folder: an empty folder for the copies.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.addresses: dict[str, str] = {}  # folders in a store, by local folder
        self.downloads: dict[str, Path] = {}  # local files, by web address
        self.outputs: list[Path] = []

    def get(self, path: str | Path) -> Path:
        """Return a file that can be read here.

        Raises:
            LFADSError: there is no such file in the store, or it does not answer.
        """
        if not is_url(path):
            return Path(path)
        if is_web(path):
            return self._downloaded(str(path))
        url, _, name = str(path).rpartition("/")
        local = self.folder(url) / name
        if not local.exists():
            here = (store := Store(url)).names()
            if name not in here:
                raise LFADSError(f"{path}: no such file; {url} holds {listed(sorted(here))}")
            store.fetch(name, here[name], local)
        return local

    def _downloaded(self, url: str) -> Path:
        if url not in self.downloads:
            folder, _, _ = url.partition("?")[0].rstrip("/").rpartition("/")
            self.downloads[url] = download(url, self.folder(folder), WAITS_S)
        return self.downloads[url]

    def matching(self, folder: str, is_wanted: Callable[[str], bool]) -> Path:
        """Return a local copy of a folder, with the files whose names are wanted.

        Other files are there but empty, so that an error message can list them.

        Raises:
            LFADSError: the folder holds no files, or the store does not answer.
        """
        store, local = Store(folder), self.folder(folder)
        here = store.names()
        if not here:
            raise LFADSError(
                f"{store.url}: holds no files; data_dir must be the folder of the sessions"
            )
        wanted = {n: size for n, size in here.items() if is_wanted(n)}
        megabytes = sum(wanted.values()) / 1e6
        print(f"Fetching {store.url} ({len(wanted)} files, {megabytes:.1f} MB)", file=sys.stderr)
        for name, size in here.items():
            if name in wanted:
                store.fetch(name, size, local / name)
            else:
                (local / name).touch()
        return local

    def folder(self, path: str | Path) -> Path:
        """Return the local folder for a folder in a store; it holds the files fetched so far."""
        if not is_url(path):
            return Path(path)
        url = str(path).rstrip("/")
        for folder, known in self.addresses.items():
            if known == url:
                return Path(folder)
        local = self.root / f"{len(self.addresses):04d}"  # no name is a prefix of another
        local.mkdir()
        self.addresses[str(local)] = url
        return local

    def output(self, path: str | Path) -> Path:
        """Return the local path of a file to write; :meth:`send` copies it to its store."""
        if not is_url(path):
            return Path(path)
        if is_web(path):
            raise LFADSError(
                f"{path}: nothing can be written there; give a folder, or one in a store (s3://…)"
            )
        url, _, name = str(path).rpartition("/")
        local = self.folder(url) / name
        self.outputs.append(local)
        return local

    def send(self) -> None:
        """Copy written files to their store: all files of a folder, or none.

        Raises:
            LFADSError: the store does not answer; the files are kept, and the message says where.
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
        """Return a text with the paths of copies replaced by their addresses."""
        return with_addresses(text, self.addresses)


def expanded(paths: Paths) -> list[str | Path]:
    """Replace addresses with ``*`` or ``?`` in their last part by those of the files they match.

    Shells expand paths, but not addresses.

    Raises:
        LFADSError: none matches, or the store does not answer.
    """
    found: list[str | Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        url, _, pattern = str(path).rpartition("/")
        if not is_url(path) or is_web(path) or not any(mark in pattern for mark in "*?["):
            found.append(path)
            continue
        here = Store(url).names()
        names = sorted(name for name in here if fnmatchcase(name, pattern))
        if not names:
            raise LFADSError(f"{path}: no file matches; {url} holds {listed(sorted(here))}")
        found += [f"{url}/{name}" for name in names]
    return found


def sibling(path: str | Path, name: str) -> str | Path:
    """Return the path, or the address, of a file in the same folder as another."""
    return f"{str(path).rpartition('/')[0]}/{name}" if is_url(path) else Path(path).parent / name


def within(folder: str | Path, name: str) -> str | Path:
    """Return the path, or the address, of a file in a folder."""
    return f"{str(folder).rstrip('/')}/{name}" if is_url(folder) else Path(folder) / name
