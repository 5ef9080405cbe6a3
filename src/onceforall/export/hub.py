"""Exported folders on the Hugging Face Hub, by way of its own library.

The library reads HF_TOKEN, HF_ENDPOINT and what `hf auth login` left.
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
    utils, errors = _library("utils"), _library("errors")
    for repo in repos:
        try:
            utils.validate_repo_id(repo)
        except errors.HFValidationError as error:
            raise HubError(f"--push-to-hub: {repo!r} is no name of a repository, give USER/NAME: {one_line(error)}") from None
    if utils.get_token() is None:
        raise HubError(f"--push-to-hub: there is no token of the Hugging Face Hub here: {TOKEN}")


def push(folder: Path, repo: str) -> str:
    """Upload an exported folder in one commit; return the address. A repository that is not there yet is made, and is private.

    Files of an earlier export that this one has not are deleted in the same commit; any other file in the repository stays.
    trained_on.json, which tells who has an image whether it was trained on, is not uploaded, and deleted if an earlier one was.

    Args:
        folder: as `exporting` left it.
        repo: USER/NAME; NAME alone is the token's user's.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        HubError: the Hub refuses it or cannot be reached.
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
                delete_patterns=sorted(export_files()),  # those that are uploaded stay
            )
    except Exception as error:  # httpx has its own classes, which are not ours to import
        by_hand = f"hf upload --private {repo} {shlex.quote(str(folder))} --exclude {TRAINED_ON}"
        raise HubError(f"{repo}: not pushed: {_reason(error)}; {folder} is whole, later: {by_hand}") from error
    return str(made)


def _library(part: str) -> Any:
    """A module of the library, whose package itself shows only what was imported before."""
    return import_package(f"huggingface_hub.{part}", "hub")


def _reason(error: Exception) -> str:
    if isinstance(error, _library("errors").HfHubHTTPError):
        status = error.response.status_code
        return ADVICE.get(status, f"the Hub answers {status}: {one_line(error)}")
    if not out_of_reach(error):
        return f"{one_line(error)}: mend that"
    return f"the Hub cannot be reached ({one_line(error)}): check the network"
