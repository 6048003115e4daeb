"""Secrets stay out of what is printed or saved. In: text, for a message or a file; out: the text without credentials.

Two kinds are known: credentials inside URIs (user:password@, ?secret_key=, ?sig=, ...), which are recognised by their form, and values
that a config took from the environment, which `hide` notes as they are read. The form cannot tell every password from a path, so what is
doubtful counts as a credential.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

STRUCK = "***"  # stands where a credential was
SHORTEST = 6  # characters of a value that is hidden wherever it occurs; a shorter one is a word of many messages

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^\s\"<>|]*)")
# The password runs to the last @: it may hold / and @ itself, and an address rarely holds one.
_USER_PASSWORD = re.compile(r"[^/?#:]*:(?P<secret>.*)@", re.DOTALL)
_PORT = re.compile(r"[^/?#:@]+:\d{1,5}(?=[/?#]|$)")  # host:port before the path; an @ further on belongs to the path
_USER = re.compile(r"[^/?#:@]+@")
NAMED_STORES = {"s3", "s3a", "s3n", "gs", "gcs", "oss", "cos", "obs"}  # bucket names, no ports
TOKEN_USERS = NAMED_STORES | {"http", "https", "git", "github"}  # where a user without a password is a key or a token
_WHOLE = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)  # a location by itself, whatever is in it
_QUERY = re.compile(r"(?P<before>[?&;])(?P<name>[^=&;?#\s'\"]+)=(?P<value>[^&;#\s\"'<>|]*)")
_REFERENCES = re.compile(r"(\$\{[A-Za-z_][A-Za-z0-9_]*\}:?)+")  # of a config: their values are not there
_SECRET_NAME = re.compile(
    r"secret|token|passw|pwd|credential|signature|sas|private|(access|api|account|shared|client|subscription)[-_.]?key|accesskey|auth"
    r"|^(sig|key|code|pw|pass)$|[-_.](sig|key|pass|pw)$",
    re.IGNORECASE,
)

_hidden: dict[str, str] = {}  # value -> what is shown in its place


def redact(text: str) -> str:
    """The text without credentials, and with the reference in the place of each value that came from the environment."""
    for value in sorted(_hidden, key=len, reverse=True):
        if value in text:
            shown = _hidden[value]
            text = _pattern(value, shown).sub(shown.replace("\\", r"\\"), text)
    return without_credentials(text)


def _pattern(value: str, shown: str) -> re.Pattern[str]:
    """Where a value is to be replaced: everywhere, but a word, a number or a path only where it is whole, not inside another one."""
    before = after = ""
    if shown == STRUCK:  # known to be a credential
        return re.compile(re.escape(value))
    if value.isalpha() or value.isdigit():  # behind %2F or \n it is whole as well; training.epochs is one word
        before, after = r"(?:(?<![A-Za-z0-9_.])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[a-z]))", r"(?!\.?[A-Za-z0-9_])"
    elif value.startswith(("/", "./", "../", "~/")):
        after = r"(?![A-Za-z0-9_])"
    return re.compile(f"{before}{re.escape(value)}{after}")


def without_credentials(text: str) -> str:
    """The text with *** in the place of the credentials of its URIs."""
    if "://" in text:
        text = _URI.sub(lambda found: f"{found[1]}://{_address(found[1].lower(), found[2])}", text)
    if "?" in text or "&" in text:
        text = _QUERY.sub(_parameter, text)
    return text


def credentials(location: str) -> Iterator[str]:
    """The credentials of a URI: passwords and keys, as they stand in it."""
    if found := _WHOLE.search(location):
        scheme, rest = found[1].lower(), found[2]
        if end := _user_end(scheme, rest):
            with_password = _USER_PASSWORD.fullmatch(rest[:end])
            yield with_password["secret"] if with_password else rest[: end - 1]
            location = rest[end:]
    for found in _QUERY.finditer(location):
        if _SECRET_NAME.search(found["name"]) and found["value"]:
            yield found["value"]


def hide(value: str, shown: str = STRUCK) -> None:
    """From now on `redact` puts `shown` in the place of this value, also where it is percent-encoded or decoded."""
    for form in {value, unquote(value), unquote_plus(value), quote(value, safe=""), quote(value), quote_plus(value)}:
        if len(form) >= SHORTEST and form != STRUCK and form not in shown:
            _hidden[form] = shown


def hide_credentials(location: str) -> None:
    """Hide what a location that is about to be opened holds: libraries quote parts of it in their errors."""
    for value in credentials(location):
        if set(value) != {"*"}:
            hide(value)


def forget() -> None:
    """Hide nothing more: a new command begins."""
    _hidden.clear()


def _user_end(scheme: str, rest: str) -> int:
    """Where the user's part of an address ends; 0 where there is none that is secret."""
    ported = _PORT.match(rest) and scheme not in NAMED_STORES
    if not ported and (found := _USER_PASSWORD.match(rest)):
        return found.end()
    if scheme in TOKEN_USERS and (found := _USER.match(rest)):
        return found.end()
    return 0


def _address(scheme: str, rest: str) -> str:
    end = _user_end(scheme, rest)
    return f"{STRUCK}@{rest[end:]}" if end and not _REFERENCES.fullmatch(rest[: end - 1]) else rest


def _parameter(found: re.Match[str]) -> str:
    secret = found["value"] and _SECRET_NAME.search(found["name"]) and not _REFERENCES.fullmatch(found["value"])
    return f"{found['before']}{found['name']}={STRUCK}" if secret else found[0]
