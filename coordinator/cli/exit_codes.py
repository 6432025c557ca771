"""How commands end: exit statuses, and what is said on standard error before. And the variables all commands share."""

from __future__ import annotations

import signal
import sys
from typing import Final, NoReturn

from coordinator import ENVIRONMENT_PREFIX
from coordinator.cli.output import say

__all__ = [
    "AS_VARIABLE",
    "CA_VARIABLE",
    "CLIENT_CERT_VARIABLE",
    "EXIT_ERROR",
    "EXIT_INTERRUPTED",
    "EXIT_NO_CONNECTION",
    "EXIT_USAGE",
    "KEY_VARIABLE",
    "SIGNALLED",
    "TOKEN",
    "TOKEN_FILE_VARIABLE",
    "URL_VARIABLE",
    "complain",
    "fail",
    "first_leaf",
]

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
EXIT_NO_CONNECTION: Final = 3
SIGNALLED: Final = 128
"""With a signal's number added: as shells report that it has ended a command."""
EXIT_INTERRUPTED: Final = SIGNALLED + signal.SIGINT

URL_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_URL"
KEY_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_KEY"
AS_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_AS"
TOKEN_FILE_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_TOKEN_FILE"
TOKEN: Final = f"{ENVIRONMENT_PREFIX}_TOKEN"
CA_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_CA"
CLIENT_CERT_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}_CLIENT_CERT"


def complain(message: str) -> None:
    say(f"herocoordinator: {message}", err=True)


def fail(message: str, status: int = EXIT_ERROR) -> NoReturn:
    complain(message)
    sys.exit(status)


def first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
