"""What all commands that talk to a server have in common: where it is, who one is, and how its refusals are told."""

import contextlib
import getpass
import os
import sys
from collections.abc import Iterator
from typing import Final

from veza import config
from veza.client import ApiError, AuthFailed, ClientError, Tokens, Unreachable, VezaClient
from veza.client.models import Login
from veza.commands.lines import is_terminal
from veza.commands.saved import Logins, Saved
from veza.errors import Problem

ANOTHER: Final = "is a server running there? --server or VEZA_SERVER names another"


def server_url(given: str | None) -> str:
    """A server's URL as people write it, `localhost:8080` say; by default the one this machine's settings describe."""
    url = (given or _local_server()).rstrip("/")
    return url if "://" in url else f"http://{url}"


def _local_server() -> str:
    settings = config.load()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"


@contextlib.contextmanager
def told_as_problems(hint: str = "") -> Iterator[None]:
    """What the client raises becomes a Problem; a reader of our output that is gone ends us quietly.

    Args:
        hint: what to do where nobody listens, put behind the problem in parentheses.
    """
    try:
        yield
    except* ClientError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        nobody = isinstance(error, Unreachable) and str(error).endswith("connection refused")
        raise Problem(f"{error} ({hint})" if hint and nobody else str(error)) from None
    except* BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def log_in(client: VezaClient, url: str, user: str | None, register: bool) -> None:
    """By VEZA_TOKEN, by the login saved here, by VEZA_USER and VEZA_PASSWORD, or by asking."""
    if token := os.environ.get("VEZA_TOKEN"):
        client.tokens = Tokens(access_token=token)
        return
    logins = Logins()
    saved = logins.of(url)
    if saved is not None and not register and user in (None, saved.username):
        name = saved.username
        client.tokens = saved.tokens
        client.keep_tokens(
            lambda tokens: logins.keep(url, Saved(name, tokens) if tokens else None),
            lambda: found.tokens if (found := logins.of(url)) and found.username == name else None,
        )
        try:
            await client.me()
            return
        except AuthFailed:
            logins.keep(url, None)
    login = await _ask_who(client, user, register)
    logins.keep(url, Saved(login, client.tokens) if client.tokens else None)
    client.keep_tokens(
        lambda tokens: logins.keep(url, Saved(login, tokens) if tokens else None),
        lambda: found.tokens if (found := logins.of(url)) and found.username == login else None,
    )


async def _ask_who(client: VezaClient, user: str | None, register: bool) -> str:
    password = os.environ.get("VEZA_PASSWORD")
    if user and password and not register:
        answer = await _log_in(client, user, password)
        return answer.user.username if answer.user else user
    if not is_terminal(sys.stdin):
        raise Problem(
            "not logged in: run veza chat in a terminal once, or set VEZA_TOKEN, or VEZA_USER and VEZA_PASSWORD"
        )
    if not register and user is None:
        register = _ask(f"{client.url}: (l)og in or (r)egister? ").lower().startswith("r")
    while True:
        name = user or _ask("Username: " if register else "Username or e-mail address: ")
        email = _ask("E-mail address: ") if register else ""
        typed = getpass.getpass("Password: ")
        if register and getpass.getpass("Password again: ") != typed:
            print("The two are not the same.")
            continue
        try:
            if register:
                answer = await client.register(name, email, typed)
            else:
                answer = await _log_in(client, name, typed)
            return answer.user.username if answer.user else name
        except ApiError as error:
            print(f"{error}")
            for field, sentence in error.details.items():
                print(f"  {field}: {sentence}")
            if error.status not in (400, 401, 409):
                raise
            user = None


async def _log_in(client: VezaClient, name: str, password: str) -> Login:
    """Log in; in a terminal the code of a second factor is asked for, until it is right."""
    code: str | None = None
    while True:
        try:
            return await client.login(name, password, totp_code=code)
        except ApiError as error:
            if error.code not in ("TWO_FACTOR_REQUIRED", "INVALID_CODE") or not is_terminal(sys.stdin):
                raise
            if code is not None:
                print(f"{error}")
        code = _ask("Code of your authenticator, or a recovery code: ")


def _ask(question: str) -> str:
    while True:
        if answer := input(question).strip():
            return answer
