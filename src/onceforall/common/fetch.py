"""Download files once into a cache, resume interrupted downloads, and check digests.

A file is called `NAME.incomplete` until it is complete and its digest is right. For the Hugging Face Hub, its own library handles
addresses, tokens and the cache; `fetch` only downloads.
"""

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import FileError
from .files import make_folder, one_at_a_time, reading_or_writing
from .packages import import_package, one_line, quiet_packages

MIRROR = "ONCEFORALL_MIRROR"
ANSWER_S = 10  # without an answer for this long, a server counts as unreachable
CHUNK = 1 << 20
SHA1, SHA256 = 40, 64  # hexadecimal digits
UNREACHABLE = {  # errors of Python, httpx, requests, aiohttp, and of the Hub's library in offline mode
    *("ConnectionError", "TimeoutError", "gaierror", "SSLError", "TimeoutException", "NetworkError", "ProxyError"),
    *("RemoteProtocolError", "Timeout", "ClientConnectionError", "LocalEntryNotFoundError"),
}
NOT_NOW = (408, 429, *range(500, 600))  # status codes of temporary failures
Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Args:
        text: the user's request that needs the file.
        path: where to store it.
        digest: first digits of its sha256, or all 40 of its git object id.
        otherwise: what to do if it cannot be downloaded, for messages.
        size: in bytes, if known beforehand.
        headers: for this server only; no other server may see them.
    """

    text: str
    url: str
    path: Path
    digest: str
    otherwise: str
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def error(self, reason: str) -> FileError:
        """One line: the file, why it is missing, and what to do; `reason` must end such that `otherwise` continues it."""
        size = "" if self.size is None else f" ({self.size / 1e6:,.1f} MB)"
        return FileError(f"{self.text!r} needs {self.url}{size}: {reason} {self.otherwise}")


def mirrored(url: str) -> str:
    """The address to download from: with ONCEFORALL_MIRROR set, MIRROR/HOST/PATH in place of https://HOST/PATH.

    Raises:
        FileError: the mirror is not an address.
    """
    mirror = os.environ.get(MIRROR, "").strip().rstrip("/")
    if not mirror:
        return url
    if not mirror.startswith(("http://", "https://")):
        raise FileError(f"{MIRROR}={mirror}: an address such as https://mirror.example/files is needed: correct it, or unset it")
    return f"{mirror}/{url.partition('://')[2]}"


def require_digest(path: Path, digest: str, what: str) -> None:
    """Raise a `FileError` that says to delete the file if it does not have this digest; see `Remote`."""
    if (other := _other(path, digest)) is not None:
        raise FileError(f"{path}: is not {what} ({other}), so it was changed or is damaged: delete it to download it again")


def fetch(remote: Remote, tell: Tell) -> Path:
    """Download the file unless it is cached, check its digest, and return its path.

    Args:
        tell: gets {"event": "download", "file": name, "done": bytes, "total": bytes or None}.

    Raises:
        FileError: the file is unreachable, changed or truncated, or cannot be written; one line.
    """
    path = remote.path
    if not path.exists():
        make_folder(path.parent)
        with one_at_a_time(path.with_name(f".{path.name}.lock")):
            if not path.exists():  # else another process has fetched it
                part = path.with_name(f"{path.name}.incomplete")
                _download(remote, part, tell)
                if (other := _other(part, remote.digest)) is not None:
                    with reading_or_writing(part):
                        part.unlink()
                    raise remote.error(
                        f"the downloaded file is wrong ({other}): it was changed there, or damaged on the way, and is deleted:"
                    )
                with reading_or_writing(path):
                    os.replace(part, path)
                return path
    require_digest(path, remote.digest, remote.url)
    return path


def _download(remote: Remote, part: Path, tell: Tell) -> None:
    """Download the rest of the file, from where an earlier try ended."""
    with reading_or_writing(part):
        done = part.stat().st_size if part.exists() else 0
    try:
        with urllib.request.urlopen(_request(remote, done), timeout=ANSWER_S) as answer:
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                done = 0  # the server starts over
            length = answer.headers.get("Content-Length", "")
            total = done + int(length) if length.isdigit() else None
            _require_space(remote, part, 0 if total is None else total - done)
            for written in _written(answer, part, done):
                done = written
                tell({"event": "download", "file": remote.path.name, "done": done, "total": total})
    except urllib.error.HTTPError as error:
        error.close()
        if done and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # there is no more of it
        raise remote.error(f"the server answers {error.code} {error.reason}:") from None
    except FileError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError, timeouts, resets, TLS; invalid addresses
        why = " ".join(str(error.reason if isinstance(error, urllib.error.URLError) else error).split()) or type(error).__name__
        raise remote.error(f"not in the cache, and cannot be downloaded ({why}): connect, or") from None
    if total is not None and done < total:
        raise remote.error(f"the connection ended after {done:,} of {total:,} bytes: run the command again to resume there, or")


def _request(remote: Remote, done: int) -> urllib.request.Request:
    request = urllib.request.Request(remote.url, headers={"User-Agent": "onceforall"})
    for name, value in remote.headers.items():
        request.add_unredirected_header(name, value)  # for this server only
    if done:
        request.add_header("Range", f"bytes={done}-")
    return request


def _written(answer: Any, part: Path, done: int) -> Iterator[int]:
    """Write what arrives, and yield the number of bytes in the file, until the connection ends."""
    with reading_or_writing(part):
        file = open(part, "ab" if done else "wb")  # noqa: SIM115
    with file:
        while chunk := answer.read(CHUNK):
            with reading_or_writing(part):
                file.write(chunk)
                file.flush()
            done += len(chunk)
            yield done


def _require_space(remote: Remote, part: Path, needed: int) -> None:
    with reading_or_writing(part.parent):
        free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise FileError(
            f"{part.parent}: the disk has {free / 1e6:,.1f} MB free, and {remote.url} needs {needed / 1e6:,.1f} MB: free some "
            "space and run the command again"
        )


def _other(path: Path, digest: str) -> str | None:
    """None if the file has this digest; else a text with its own digest and the expected one."""
    with reading_or_writing(path), open(path, "rb") as file:
        if len(digest) == SHA1:
            size = path.stat().st_size
            git, plain = hashlib.sha1(b"blob %d\0" % size), hashlib.sha1()  # some stores give the latter
            while chunk := file.read(CHUNK):
                git.update(chunk)
                plain.update(chunk)
            found, name = [git.hexdigest(), plain.hexdigest()], "git object id"
        else:
            found, name = [hashlib.file_digest(file, "sha256").hexdigest()], "sha256"
    if any(value.startswith(digest) for value in found):
        return None
    return f"its {name} is {found[0][: len(digest)]}, not {digest}"


# -- the Hugging Face Hub ------------------------------------------------------------------------------------------------------


class _HubFile(NamedTuple):
    """A file in the library's cache, and its address in its commit."""

    path: Path
    url: str


def from_hub(
    text: str, repository: str, names: Sequence[str], tell: Tell, *, otherwise: str, extra: str = "hub", data: bool = False
) -> _HubFile | None:
    """The first of these files that the repository has, from the library's cache or the Hub; None if it has none of them.

    Args:
        repository: USER/NAME or USER/NAME@REVISION.
        names: of files, the best one first. Cached files are used without asking the Hub.
        extra: that installs the library.
        data: the repository is a data set, whose large files are only checked when downloaded, not each time they are used.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        FileError: unreachable, hidden without a token, changed, or not writable; one line.
    """
    hub, errors = import_package("huggingface_hub", extra), import_package("huggingface_hub.errors", extra)
    constants = import_package("huggingface_hub.constants", extra)
    endpoint, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    repo, _, revision = repository.partition("@")
    kind, address = ("dataset", f"{endpoint}/datasets/{repo}") if data else ("model", f"{endpoint}/{repo}")
    known = {"repo_id": repo, "revision": revision or "main", "repo_type": kind}
    for name in names:
        found = hub.try_to_load_from_cache(filename=name, cache_dir=cache, **known)
        if isinstance(found, str):
            return _of_cache(Path(found), address, name, check=not data)
    for name in names:
        url = hub.hf_hub_url(filename=name, endpoint=endpoint, **known)
        remote = Remote(text, url, Path(name), "", otherwise)
        try:
            with quiet_packages():
                facts = hub.get_hf_file_metadata(url, timeout=ANSWER_S)
        except errors.RemoteEntryNotFoundError:
            continue
        except Exception as error:  # httpx has its own classes, which are not ours to import
            raise remote.error(_reason(error, errors, repository, address)) from None
        if facts.etag and len(facts.etag) in (SHA1, SHA256):  # then it is the digest, and the file's name in the cache
            blob = Path(cache, hub.file_download.repo_folder_name(repo_id=repo, repo_type=kind), "blobs", facts.etag)
            same = urlsplit(facts.location).netloc == urlsplit(url).netloc
            headers = hub.utils.build_hf_headers() if same else {}
            fetch(replace(remote, url=facts.location, path=blob, digest=facts.etag, size=facts.size, headers=headers), tell)
        try:
            with quiet_packages():  # finds the file there and links to it, or else downloads it
                found = hub.hf_hub_download(filename=name, cache_dir=cache, endpoint=endpoint, **known)
        except Exception as error:
            raise remote.error(_reason(error, errors, repository, address)) from None
        return _of_cache(Path(found), address, name, check=not data)
    return None


def _of_cache(path: Path, address: str, name: str, *, check: bool) -> _HubFile:
    """A file of the library's cache: REPOSITORY/snapshots/COMMIT/NAME, usually a link to REPOSITORY/blobs/DIGEST."""
    url = f"{address}/resolve/{path.parts[-1 - len(Path(name).parts)]}/{name}"
    digest = path.resolve().name
    if check and re.fullmatch(rf"[0-9a-f]{{{SHA1}}}|[0-9a-f]{{{SHA256}}}", digest):
        require_digest(path.resolve(), digest, url)
    return _HubFile(path, url)


def _reason(error: Exception, errors: Any, repository: str, address: str) -> str:
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} requires accepting its terms: do so at {address}, then hf auth login, or"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the Hub has no repository {repository}, or hides it: check the name, or give a token (hf auth login), or"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository.partition('@')[0]} has no revision {repository.partition('@')[2]!r}: check it, or"
    why = "HF_HUB_OFFLINE is set" if isinstance(error, errors.OfflineModeIsEnabled) else one_line(error)
    return f"not in the cache, and cannot be downloaded ({why}): {'connect' if out_of_reach(error) else 'fix that'}, or"


def out_of_reach(error: BaseException) -> bool:
    """Whether a library failed because a server is unreachable or overloaded, by class name: we cannot import its classes."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & UNREACHABLE or ("HfHubHTTPError" in kinds and error.response.status_code in NOT_NOW):  # type: ignore[attr-defined]
        return True
    return error.__cause__ is not None and out_of_reach(error.__cause__)
