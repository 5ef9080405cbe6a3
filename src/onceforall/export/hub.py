"""Exported folders on the Hugging Face Hub, by way of its own library.

The library reads HF_TOKEN, HF_ENDPOINT and what `hf auth login` left.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import HubError
from ..packages import import_package, one_line, quiet

__all__ = ["push", "require_pushable"]

TOKEN = "give a token that may write with hf auth login or HF_TOKEN"
ADVICE = {
    401: f"the Hub does not know the token: {TOKEN}",
    403: f"the token may not write there: {TOKEN}, or choose another name",
    404: "the Hub has no such user or organisation: choose another name",
}


def require_pushable(repos: Sequence[str]) -> None:
    """Look at all that can be known without a network: package, names, token.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        HubError: a name that no repository can have, or no token.
    """
    library = _library()
    for repo in repos:
        try:
            library.utils.validate_repo_id(repo)
        except library.errors.HFValidationError as error:
            raise HubError(f"--push-to-hub: {repo!r} is no name of a repository, give USER/NAME: {one_line(error)}") from None
    if library.get_token() is None:
        raise HubError(f"--push-to-hub: there is no token of the Hugging Face Hub here: {TOKEN}")


def push(folder: Path, repo: str) -> str:
    """Upload an exported folder in one commit; return the address. A repository that is not there yet is made, and is private.

    Args:
        folder: as `export_network` left it.
        repo: USER/NAME; NAME alone is the token's user's.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        HubError: the Hub refuses it or cannot be reached.
    """
    library = _library()
    api = library.HfApi()
    try:
        with quiet():
            made = api.create_repo(repo, private=True, exist_ok=True)
            api.upload_folder(
                repo_id=made.repo_id,
                folder_path=folder,
                commit_message="Network specialised by onceforall",
                ignore_patterns=["__pycache__/**"],
            )
    except Exception as error:  # httpx has its own classes, which are not ours to import
        raise HubError(f"{repo}: not pushed: {_reason(error, library)}; {folder} is whole: hf upload {repo} {folder}") from error
    return str(made)


def _library() -> Any:
    return import_package("huggingface_hub", "hub")


def _reason(error: Exception, library: Any) -> str:
    if isinstance(error, library.errors.HfHubHTTPError):
        status = error.response.status_code
        return ADVICE.get(status, f"the Hub answers {status}: {one_line(error)}")
    return f"the Hub cannot be reached ({one_line(error)}): check the network"
