"""The logs: one event a line, the ids of its request or session on it, and never a secret, whoever logs it."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from veza import log

SIGNATURE = "f93866a35a995a2f31c2783c2a579e5f96bba72ad8d747a952201eb4f5eb699c"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_json_line(out: io.StringIO) -> None:
    log.setup("json", "info", out)
    log.get("door").info("listening", port=8080)
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "listening", "level": "info", "part": "door", "port": 8080}


def test_what_is_below_the_level_is_not_written(out: io.StringIO) -> None:
    log.setup("json", "warning", out)
    log.get("x").info("no")
    logging.getLogger("library").info("no")
    log.get("x").warning("yes")
    assert [line["event"] for line in lines(out)] == ["yes"]


def test_libraries_speak_through_the_same_door(out: io.StringIO) -> None:
    log.setup("json", "info", out)
    logging.getLogger("library").warning("lost %d of %s", 3, "them")
    (line,) = lines(out)
    assert (line["event"], line["logger"], line["level"]) == ("lost 3 of them", "library", "warning")


def test_libraries_never_log_below_info_since_they_quote_what_passes(out: io.StringIO) -> None:
    log.setup("json", "debug", out)
    logging.getLogger("library").debug("GET %s", "secret things")
    log.get("x").debug("ours")
    assert [line["event"] for line in lines(out)] == ["ours"]


async def test_ids_follow_their_own_task_and_the_tasks_it_starts(out: io.StringIO) -> None:
    log.setup("json", "info", out)
    logger = log.get("x")

    async def request(request_id: str) -> None:
        with log.bound(request_id=request_id):
            await trio.lowlevel.checkpoint()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, request_id)

    async def child(expected: str) -> None:
        await trio.lowlevel.checkpoint()
        logger.info("child", expected=expected)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(request, f"r{number}")
    logger.info("after")
    *children, after = lines(out)
    assert len(children) == 10
    assert all(line["request_id"] == line["expected"] for line in children)
    assert "request_id" not in after


@pytest.mark.parametrize("log_format", ["console", "json"])
@pytest.mark.parametrize(
    "fields",
    [
        {"password": "hunter2"},
        {"new_password": "hunter2"},
        {"refresh_token": "hunter2"},
        {"Authorization": "Bearer hunter2"},
        {"Set-Cookie": "sid=hunter2"},
        {"jwt_secret": "hunter2"},
        {"content": "hunter2"},
        {"message_body": "hunter2"},
        {"query_string": b"hunter2"},
        {"header": "authorization: Bearer hunter2"},
        {"path": "/ws/chat?token=hunter2"},
        {"path": "/search?a=1&q=hunter2"},
        {"url": "postgresql://veza:hunter2@db:5432/veza"},
        {"url": "postgresql://veza:hunter2@@db:5432/veza"},
        {"nested": {"deep": [{"password": "hunter2"}]}},
        {"raw": b"hunter2"},
    ],
)
def test_secrets_do_not_reach_the_log(out: io.StringIO, log_format: str, fields: dict[str, Any]) -> None:
    log.setup(log_format, "info", out)
    log.get("x").warning("careless", **fields)
    assert "careless" in out.getvalue()
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize(
    "path", ["/live/1893456000.{}/show-1/index.m3u8", "/hls/1893456000.{}/plouf/master.m3u8"]
)
def test_nor_do_addresses_that_open_what_they_name(out: io.StringIO, path: str) -> None:
    log.setup("json", "info", out)
    log.get("x").warning("refused", path=path.format(SIGNATURE))
    assert path.partition("{}")[2] in out.getvalue()
    assert SIGNATURE not in out.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_nor_do_they_through_texts_libraries_and_tracebacks(out: io.StringIO, log_format: str) -> None:
    log.setup(log_format, "info", out)
    log.get("x").info(f"asked with {JWT}")
    logging.getLogger("library").warning("GET %s", f"/ws?token={JWT}")
    try:
        secret_local = JWT
        raise ValueError(f"bad token {secret_local}")
    except ValueError:
        log.get("x").exception("crashed")
        logging.getLogger("library").exception("crashed")
    written = out.getvalue()
    assert written.count("Traceback (most recent call last)") == 2
    assert JWT not in written
    assert JWT.split(".")[2] not in written


def test_what_is_no_secret_stays_readable(out: io.StringIO) -> None:
    log.setup("json", "info", out)
    log.get("x").info(
        "ok", code="RATE_LIMITED", tokens=3, content_type="text/plain", path="/api/v1/rooms", close=1013
    )
    (line,) = lines(out)
    assert line["code"] == "RATE_LIMITED"
    assert (line["tokens"], line["close"]) == (3, 1013)
    assert (line["content_type"], line["path"]) == ("text/plain", "/api/v1/rooms")


@given(st.text())
def test_whatever_a_value_holds_an_event_stays_one_line(text: str) -> None:
    for log_format in ("json", "console"):
        out = io.StringIO()
        log.setup(log_format, "info", out)
        log.get("x").info("event", name=text)
        log.get("x").info(text)
        assert out.getvalue().count("\n") == 2
        if log_format == "console":
            assert len(out.getvalue().splitlines()) == 2


def test_a_log_that_cannot_be_written_disturbs_nobody() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    log.setup("json", "info", Gone())
    log.get("x").error("nobody hears this")
