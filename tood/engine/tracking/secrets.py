"""Keeps passwords and keys out of what is logged and sent."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_CREDENTIALS = re.compile(r"(\w+://)[^/@\s'\"]+@")
_QUERY = re.compile(r"(\w+://[^\s?'\"]+)\?[^\s'\")]+")  # signed URLs have their key there
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL")
_MIN_LENGTH = 6  # shorter values of such variables are no secrets, but parts of words


def hide_secrets(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Replace credentials and queries in URLs, and values of variables that are named as secrets.

    Args:
        text: an error message, or a value of the config.
        environ: the environment variables; by default those of this process.
    """
    for name, value in (os.environ if environ is None else environ).items():
        if _SECRET_NAME.search(name.upper()) and len(value) >= _MIN_LENGTH and "/" not in value:
            text = text.replace(value, HIDDEN)
    return _QUERY.sub(rf"\1?{HIDDEN}", _CREDENTIALS.sub(rf"\1{HIDDEN}@", text))


def safe_message(error: Exception) -> str:
    """What an error says, in one line without secrets; its type if it says nothing."""
    return " ".join(hide_secrets(str(error)).split()) or type(error).__name__


def hide_in_value(value: Any) -> Any:
    """A plain value of the config without secrets."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, (list, tuple)):
        return [hide_in_value(item) for item in value]
    return value
