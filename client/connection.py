"""Which service, and by which token: what was said, else the environment, else what a service on
this machine left.
"""

import os

from client import home

DEFAULT_SERVER = "http://127.0.0.1:8470"
SERVER_VARIABLE = "STOWPLAN_SERVER"
TOKEN_VARIABLE = "STOWPLAN_TOKEN"  # noqa: S105 - the name of the variable, not a token
USER_TOKEN_FILE = "user.token"  # noqa: S105
SERVER_URL_FILE = "server.url"


def resolve_server(server: str | None = None) -> str:
    """The service's address, ``http://host:port``."""
    return (
        server
        or os.environ.get(SERVER_VARIABLE)
        or home.read_token(SERVER_URL_FILE)
        or DEFAULT_SERVER
    )


def resolve_token(token: str | None = None) -> str | None:
    """The user token, or None where none is to be found: the service then says what to do."""
    return token or os.environ.get(TOKEN_VARIABLE) or home.read_token(USER_TOKEN_FILE)
