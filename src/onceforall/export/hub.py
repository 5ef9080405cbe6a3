"""Upload exported folders to the Hugging Face Hub with its own library.

The library reads HF_TOKEN, HF_ENDPOINT and the login of `hf auth login`.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.fetch import out_of_reach
from ..common.packages import import_package, one_line, quiet_packages
from ..errors import HubError
from .folder import export_files
from .trained_on import TRAINED_ON

TOKEN = "give a token with write access by hf auth login or HF_TOKEN"
ADVICE = {
    401: f"the Hub rejects the token: {TOKEN}",
    403: f"the token may not write there: {TOKEN}, or choose another name",
    404: "the Hub has no such user or organization: choose another name",
}


def require_pushable(repos: Sequence[str]) -> None:
    """Check the package, the names and the token, offline.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        HubError: a repository name is invalid, or there is no token.
    """
    utils, errors = _library("utils"), _library("errors")
    for repo in repos:
        try:
            utils.validate_repo_id(repo)
        except errors.HFValidationError as error:
            raise HubError(f"--push-to-hub: {repo!r} is not a repository name, give USER/NAME: {one_line(error)}") from None
    if utils.get_token() is None:
        raise HubError(f"--push-to-hub: no token of the Hugging Face Hub was found: {TOKEN}")


def push(folder: Path, repo: str) -> str:
    """Upload an exported folder in one commit and return its address. A new repository is created as private.

    Files of an earlier export that this one lacks are deleted in the same commit; other files in the repository stay.
    trained_on.json, with which anyone who has an image can test whether it was a training image, is not uploaded; an earlier one
    is deleted.

    Args:
        folder: a folder written by `exporting`.
        repo: USER/NAME, or NAME for the token's user.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        HubError: the Hub refuses the upload or cannot be reached.
    """
    api = _library("hf_api").HfApi()
    try:
        with quiet_packages():
            made = api.create_repo(repo, private=True, exist_ok=True)
            api.upload_folder(
                repo_id=made.repo_id,
                folder_path=folder,
                commit_message="Network specialised by onceforall",
                ignore_patterns=["__pycache__/**", TRAINED_ON],
                delete_patterns=sorted(export_files()),  # uploaded files are not deleted
            )
    except Exception as error:  # httpx has its own classes, which we do not import
        by_hand = f"hf upload --private {repo} {shlex.quote(str(folder))} --exclude {TRAINED_ON}"
        raise HubError(f"{repo}: not pushed: {_reason(error)}; {folder} is complete, push it later with {by_hand}") from error
    return str(made)


def _library(part: str) -> Any:
    """A module of the library, which exposes only modules that were imported by name."""
    return import_package(f"huggingface_hub.{part}", "hub")


def _reason(error: Exception) -> str:
    if isinstance(error, _library("errors").HfHubHTTPError):
        status = error.response.status_code
        return ADVICE.get(status, f"the Hub answers {status}: {one_line(error)}")
    if not out_of_reach(error):
        return one_line(error)
    return f"the Hub cannot be reached ({one_line(error)}): check the network"
