"""`convnext.push`: a run's folder for the Hub, and its upload as one commit."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convnext import __version__
from convnext.deploy.push.folder import OWN_LAYOUT, HubFolder, ended_run, write_hub_folder
from convnext.errors import InputError
from convnext.printing import printable
from convnext.storage.hub import IDENTIFIER, PREFIX

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

CONFIGURATION = ("config.json", "preprocessor_config.json")
"""Files that say how weights are used: one that an earlier push left would be wrong of new weights."""
_NETWORK_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests", "urllib3")


class PushedRun(NamedTuple):
    """Result of a push to the Hub.

    Args:
        repository: on the Hub, `ORG/NAME`.
        url: the repository's page; None where nothing was uploaded.
        commit: the commit's hash, of the last one where nothing has changed since; None where nothing was uploaded.
        layout: "hf" (transformers'), "timm" or "convnext".
        folder: where the files are kept; None where they are not.
        files: size in bytes by name.
        notes: lines on what was left out or changed.
    """

    repository: str
    url: str | None
    commit: str | None
    layout: str
    folder: Path | None
    files: dict[str, int]
    notes: list[str]


def push(
    run: str | Path,
    repository: str,
    *,
    private: bool = False,
    layout: str | None = None,
    out: str | Path | None = None,
    dry_run: bool = False,
    galleries: bool = True,
) -> PushedRun:
    """Publish a run on the Hugging Face Hub: its last weights, how they are used, its card and the card's pictures.

    Data, checkpoints and logs are not published. A repository that is there gets one commit more, of what has changed.
    Whoever is logged in (`hf auth login`, or HF_TOKEN) publishes.

    Args:
        run: a run that has ended.
        repository: `ORG/NAME`; made if it is not there.
        private: whether a new repository is private.
        layout: "hf" (transformers') or "timm"; None: the first that can hold the network, else this project's own.
        out: a new or empty folder to keep the files in; None: `hub` in the run with `dry_run`, else nowhere.
        dry_run: write the folder, and upload nothing.
        galleries: whether to publish the card's pictures that show images of the data.

    Raises:
        InputError: no run, or one that has not ended; a layout that cannot hold its network; no network; a token that
            is refused; a public repository where `private` is asked for, or one that holds another model.
    """
    path, name = Path(run), named_repository(repository)
    ended_run(path)
    how: dict[str, Any] = {"layout": layout, "galleries": galleries}
    if dry_run:
        made = write_hub_folder(path, Path(out or path / "hub"), replace=out is None, **how)
        return PushedRun(name, None, None, made.layout, made.path, made.files, made.notes)
    api = _logged_in(name)
    with _place(path, out) as place:
        made = write_hub_folder(path, place, **how)
        commit = _upload(api, made, name, private)
    kept = None if out is None else made.path
    return PushedRun(name, f"{api.endpoint}/{name}", commit, made.layout, kept, made.files, made.notes)


def named_repository(text: str) -> str:
    """The repository that `ORG/NAME` names. `InputError` for what names none."""
    found = text.removeprefix(PREFIX)
    if IDENTIFIER.fullmatch(found) is None:
        raise InputError(f"'{text}' names no repository of models; the form is ORG/NAME")
    return found


def _logged_in(repository: str) -> HfApi:
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if token is None:
        raise InputError(f"cannot push to {repository}: nobody is logged in; `hf auth login` does it, or HF_TOKEN")
    return HfApi(token=token, library_name=OWN_LAYOUT, library_version=__version__)


@contextmanager
def _place(run: Path, out: str | Path | None) -> Iterator[Path]:
    """A place to write the pushed folder to: `out`, or one in the run until the block ends."""
    if out is not None:
        yield Path(out)
        return
    try:
        temporary = tempfile.TemporaryDirectory(prefix=".hub.", suffix=".tmp", dir=run)
    except OSError as error:
        raise InputError(f"cannot write {run}: {error.strerror or error}; --out names another place") from None
    with temporary as place:
        yield Path(place) / "hub"


def _upload(api: HfApi, made: HubFolder, repository: str, private: bool) -> str:
    """Upload a folder as one commit, and add lines to its notes; returns the commit's hash."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without a network: 22 lines of retries
    sent = ""
    try:
        with _quiet_bars(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            api.create_repo(repository, private=private or None, exist_ok=True)
            before = api.model_info(repository)
            there = {file.rfilename for file in before.siblings or []}
            _check_repository(api, repository, before, there, private=private)
            sent = "; the same command sends what is missing"
            stale = [name for name in CONFIGURATION if name in there and name not in made.files]
            changes: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(name, made.path / name) for name in made.files),
                *(CommitOperationDelete(name) for name in stale),
            ]
            done = api.create_commit(repository, changes, commit_message=f"Push by convnext {__version__}")
    except InputError:
        raise
    except Exception as error:  # the Hub's, of its network libraries and of the xet extension
        reason, again = _reason(error, repository)
        more = f"{_without_xet() if sent else ''}{sent}" if again else ""
        raise InputError(f"cannot push to {repository}: {reason}{more}") from None
    made.notes.extend(" ".join(printable(each.message).split()) for each in said if each.category is UserWarning)
    if done.oid == before.sha:
        made.notes.append("nothing has changed since the last commit")
    return done.oid


def _without_xet() -> str:
    """Advice for servers that play the Hub and have no Xet, which the Hub's library tries all the same."""
    from huggingface_hub import constants

    used = find_spec("hf_xet") is not None and not constants.HF_HUB_DISABLE_XET
    return "; one without Xet needs HF_HUB_DISABLE_XET=1" if used and os.environ.get("HF_ENDPOINT") else ""


def _check_repository(api: HfApi, repository: str, info: ModelInfo, there: set[str], *, private: bool) -> None:
    """`InputError` for a public repository where a private one is asked for, and for one of another model."""
    if private and not info.private:
        raise InputError(f"{repository} is there and public; make it private on its page, or name another")
    if "config.json" not in there:
        return
    try:
        config = json.loads(Path(api.hf_hub_download(repository, "config.json")).read_text(encoding="utf-8"))
    except ValueError:
        config = None
    own = config if isinstance(config, dict) else {}
    kind = str(own.get("model_type") or own.get("architecture") or own.get("library_name") or "of no known kind")
    if "convnext" not in kind.lower():
        raise InputError(f"{repository} holds another model ({printable(kind)[:80]}); name another repository")


@contextmanager
def _quiet_bars() -> Iterator[None]:
    """Inside, the Hub's progress bars are drawn on terminals alone."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _reason(error: BaseException, repository: str) -> tuple[str, bool]:
    """Why a push failed and what to do, on one line; and whether trying again may help."""
    from huggingface_hub import errors

    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    text = printable(error).strip()
    line = " ".join(text.split() if isinstance(error, ValueError) else text.splitlines()[:1])[:200]
    said = getattr(error, "server_message", None)
    server = f" ({' '.join(printable(said).split())[:200]})" if said else ""
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set", False
    if status == 401:
        return f"the Hub refuses the token{server}; log in again: `hf auth login`, or HF_TOKEN", False
    if status == 403:
        owner = repository.split("/")[0]
        return f"the token has no right to write there{server}; take one with write access to {owner}", False
    if status in (409, 412):
        return f"the repository is being changed{server}", True
    if status is not None:
        return f"the Hub answers {status}{server or f' ({line})'}", status >= 500
    if type(error).__module__.split(".")[0] in _NETWORK_LIBRARIES or isinstance(error, ConnectionError | TimeoutError):
        return f"no network? ({line})", True
    return line or type(error).__name__, isinstance(error, OSError)
