"""A pipeline by its name on the hub: a folder of files at one commit, safetensors only.

Nothing is fetched but the files that are loaded: no Python, no pickled weights. A model that is
gone or behind a licence is said to be, with the mirror or the step that is known.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from critwin.errors import InputError
from critwin.models.pipeline.catalogue import GATED, MIRRORS
from critwin.models.pipeline.folders import INDEX, component_files, read_index

__all__ = ["fetch", "is_hub_id"]

_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_id(path: str) -> bool:
    """Whether a text can be the name of a model on the hub.

    Args:
        path: The text.

    Returns:
        Whether it has the form ``owner/name``.
    """
    return _ID.fullmatch(path) is not None and ".." not in path


def fetch(
    repo: str, *, revision: str | None, variant: str | None, local_files_only: bool
) -> tuple[Path, str | None]:
    """The folder of a model of the hub, fetched unless it is there.

    Args:
        repo: ``owner/name``.
        revision: Branch, tag or commit; None: the main branch.
        variant: Variant of the weights.
        local_files_only: Whether only what was fetched before is used.

    Returns:
        The folder, and the commit if it is known.

    Raises:
        InputError: If the model cannot be had; the message says what to do.
    """
    hub: Any = import_module("huggingface_hub")
    errors: Any = import_module("huggingface_hub.errors")
    try:
        if local_files_only:
            root = hub.snapshot_download(repo, revision=revision, local_files_only=True)
        else:
            about = hub.HfApi().model_info(repo, revision=revision)
            commit = str(about.sha)
            names = [str(file.rfilename) for file in about.siblings]
            index = Path(hub.hf_hub_download(repo, INDEX, revision=commit))
            wanted = _wanted(names, index, variant)
            root = hub.snapshot_download(repo, revision=commit, allow_patterns=wanted)
    except InputError:
        raise
    except errors.GatedRepoError as error:
        raise _gated(repo) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"model {repo!r} has no such revision", got=revision, wanted="a branch, tag or commit"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise _gone(repo) from error
    except errors.EntryNotFoundError as error:
        raise _absent(repo, error) from error
    except (OSError, ValueError, errors.HfHubHTTPError) as error:
        raise _absent(repo, error) from error
    except Exception as error:  # the client of the hub has its own kinds of network errors
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore"):
            raise
        raise _absent(repo, error) from error
    folder = Path(root)
    return folder, folder.name if _COMMIT.fullmatch(folder.name) else None


def _wanted(names: list[str], index: Path, variant: str | None) -> list[str]:
    """Names of the files that are loaded, and of no others."""
    content = json.loads(index.read_text(encoding="utf-8"))
    _, components, _ = read_index(content)
    wanted = [INDEX]
    for part, class_name in components.items():
        wanted += component_files(names, part, class_name, variant)[0]
    return wanted


def _gone(repo: str) -> InputError:
    if repo in MIRRORS:
        return InputError(
            f"model {repo!r} is gone from the hub",
            wanted=f"its mirror {MIRRORS[repo]!r}",
            next_step=f'set path = "{MIRRORS[repo]}"',
        )
    if repo.startswith(GATED):
        return _gated(repo)
    return InputError(
        f"there is no model {repo!r} on the hub, or it is private",
        next_step="check the name; for a private model log in with: hf auth login",
    )


def _gated(repo: str) -> InputError:
    return InputError(
        f"model {repo!r} wants its licence accepted first",
        next_step=f"accept it at https://huggingface.co/{repo}, then log in with: hf auth login",
    )


def _absent(repo: str, error: Exception) -> InputError:
    hint = "connect to the network once, or give a local folder"
    if repo in MIRRORS:
        hint += f"; this model is gone from the hub, its mirror is {MIRRORS[repo]!r}"
    elif repo.startswith(GATED):
        hint += f"; its licence must be accepted at https://huggingface.co/{repo}"
    return InputError(
        f"model {repo!r} is not on this machine and cannot be fetched",
        got=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
        next_step=hint,
    )
