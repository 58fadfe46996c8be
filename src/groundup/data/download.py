"""Files from public mirrors into a cache folder."""

import os
from collections.abc import Sequence
from typing import Any, Final

from groundup.errors import DataNotFoundError

_TIMEOUT: Final = (10, 30)  # seconds to connect; seconds without a byte


def cache_folder(cache: str | os.PathLike[str] | None) -> str:
    """The folder given, or the platform's place for groundup's cached files."""
    if cache is not None:
        return os.path.expanduser(os.fspath(cache))
    import pooch

    return str(pooch.os_cache("groundup"))


def download(name: str, sha256: str, mirrors: Sequence[str], folder: str) -> str:
    """`name` from the first of the mirrors that serves it whole; returns its path in `folder`.

    pooch writes to a temporary file in `folder`, compares its SHA-256 and only then renames it, so
    that a file under its own name is always whole; whatever goes wrong, Ctrl-C too, the temporary
    file is deleted. A download that broke starts again from the beginning.

    Errors: DataNotFoundError, with what each mirror answered, if none served the file, or with the
    folder if it cannot be written to.
    """
    import pooch
    import requests

    # Not compressed on the way: requests would unpack it, and the sum is the packed file's.
    http = pooch.HTTPDownloader(
        chunk_size=1 << 16, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}
    )
    answers = []
    for mirror in mirrors:
        url = mirror + name
        try:
            return str(pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=http))
        except (requests.RequestException, ValueError) as error:
            answers.append(f"  {url}: {_answer(error, requests)}")
        except OSError as error:
            raise DataNotFoundError(
                f"{name} cannot be saved in {folder}: {error.strerror or error}. Nothing was left "
                "there. Make room or name another folder with cache="
            ) from error
    raise DataNotFoundError(f"{name} could not be downloaded:\n" + "\n".join(answers))


def _answer(error: Exception, requests: Any) -> str:
    """What a mirror did, in a few words."""
    if isinstance(error, requests.HTTPError):
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke in mid-file"
    if isinstance(error, requests.ConnectionError):
        cause: BaseException = error
        while cause.__context__ is not None:
            cause = cause.__context__
        return f"no connection ({cause})"
    if isinstance(error, requests.RequestException):
        return f"{type(error).__name__} ({error})"
    return f"a damaged or different file ({error})"
