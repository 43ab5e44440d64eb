"""The network is asked once, for a few seconds, before weights are fetched from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from attnguide.errors import InputError

LIMIT_S = 5.0
TORCHVISION_HOST = "https://download.pytorch.org"
_WRONG_ANSWER = ("RepositoryNotFound", "EntryNotFoundError", "GatedRepo", "HFValidation")
_LOG = logging.getLogger(__name__)


class HubError(InputError, ConnectionError):
    """Weights that cannot be fetched."""


@contextmanager
def fetching(
    what: str, host: str | None = None, instead: str = "model.checkpoint=FILE"
) -> Iterator[None]:
    """Fetch weights inside; where the host does not answer, take those that were fetched before.

    Args:
        what: Whose weights, for the message.
        host: Address to ask; HuggingFace's hub by default.
        instead: How weights that were fetched elsewhere are named on the command line.

    Raises:
        ConnectionError: neither an answer within a few seconds nor weights from before.
        ValueError: the hub has no such model.
    """
    from huggingface_hub import constants

    host = host or constants.ENDPOINT
    offline: bool = constants.HF_HUB_OFFLINE
    absent = offline or not _answers(host)
    constants.HF_HUB_OFFLINE = absent  # otherwise every file is asked for again, for a minute
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError) as error:
        kind = type(error).__name__
        reason = str(error).strip().splitlines() or [kind]
        if not absent and kind.startswith(_WRONG_ANSWER):
            raise InputError(
                f"{host} has no weights of {what} to give ({kind}: {reason[0][:150]}); check the "
                "name, or log in where the model is private"
            ) from error
        state = "out of reach" if absent else "it broke off"
        raise HubError(
            f"cannot fetch the weights of {what} from {host} ({state}; {kind}: "
            f"{reason[0][:100]}); without network, fetch them elsewhere and pass their path: "
            f"{instead} on the command line"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _answers(host: str) -> bool:
    """Whether the host answers within `LIMIT_S`, looking its name up included."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            urlopen(Request(host, method="HEAD"), timeout=LIMIT_S).close()
        except HTTPError:
            pass  # any answer is one
        except (OSError, ValueError):
            return
        answers.append(True)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if not answers:
        _LOG.warning("%s does not answer; only weights fetched before can be used", host)
    return bool(answers)
