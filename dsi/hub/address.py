"""Hub repositories: their names, and the errors of accessing them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from data_prep.errors import InputError

SCHEME = re.compile(r"^hf:/{1,2}(?=[^/])")
"""`pathlib` makes one slash of two."""
_NAME = re.compile(r"(?P<kind>datasets/)?(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Repository:
    """A hub repository at a revision.

    Attributes:
        name: `user/name`.
        dataset: Whether it is a dataset repository; otherwise it is a model repository.
        revision: A branch, a tag or a commit; None for the main branch.
    """

    name: str
    dataset: bool = False
    revision: str | None = None

    @property
    def kind(self) -> str:
        """The hub's name for its type."""
        return "dataset" if self.dataset else "model"

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"{'datasets/' if self.dataset else ''}{self.name}{at}"

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Reads `user/name`, `datasets/user/name` and `user/name@revision`, with or without hf://.

        Raises:
            InputError: It has none of these forms.
        """
        match = _NAME.fullmatch(SCHEME.sub("", text))
        if match is None or ".." in text:
            raise InputError(
                f"{text!r:.100} is not a repository on the hub",
                hint="Give user/name, user/name@revision or datasets/user/name",
            )
        return cls(match["name"], match["kind"] is not None, match["revision"])


def is_address(path: object) -> bool:
    """Tells whether a value names a hub repository: `hf://user/name`."""
    return isinstance(path, (str, os.PathLike)) and SCHEME.match(os.fspath(path)) is not None


@contextmanager
def reporting_problems(repository: Repository) -> Iterator[None]:
    """Turns errors of the hub and the network into one line.

    Raises:
        InputError: The repository or its revision is missing, access is denied, or the hub cannot
            be reached.
    """
    from huggingface_hub import errors

    # The hub client uses its own HTTP client, depending on its version.
    http = importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")
    where = f"hf://{repository}"
    try:
        yield
    except errors.RevisionNotFoundError:
        raise InputError("the repository has no such revision", where=where) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            "no such repository, or it is private",
            where=where,
            hint="Check its name, or log in with: hf auth login",
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        message = getattr(error, "server_message", None) or "no message"
        hint = "Log in with: hf auth login" if status in (401, 403) else None
        raise InputError(
            f"the hub rejected the request ({status}: {message!s:.200})", where=where, hint=hint
        ) from None
    except errors.HFValidationError as error:
        raise InputError(f"{error!s:.200}", where=where) from None
    except (
        http.HTTPError,
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        ConnectionError,
    ) as error:
        raise InputError(
            f"the hub cannot be reached ({error!s:.200})",
            where=where,
            hint="Check the network and HF_HUB_OFFLINE, then run the command again: it resumes",
        ) from None


def hub() -> Any:
    """Returns the hub client, for HF_ENDPOINT if that is set."""
    from huggingface_hub import HfApi

    return HfApi(library_name="dsi-toolkit")
