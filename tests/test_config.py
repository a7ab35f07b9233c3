"""The settings: every value that can be written is read as meant, every other one is refused in one clear line."""

import os
import re
import stat
import threading
from pathlib import Path
from typing import get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza import config, grammar
from veza.config import SettingError, Settings, load

GOOD_SECRETS = {"JWT_SECRET": "j" * 32, "SECRET_KEY": "s" * 32}


def from_env(**environ: str) -> Settings:
    return load(environ, dotenv=None)


def refusal(**environ: str) -> str:
    with pytest.raises(SettingError) as caught:
        from_env(**environ)
    line = str(caught.value)
    assert "\n" not in line
    return line


# Grammars


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90s", 90),
        ("1h30m", 5400),
        ("168h", 604800),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("1h1m1s1ms", 3661.001),
        ("+5m", 300),
        ("90m", 5400),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert grammar.parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "30", "-5s", "s", ".", ".s", "5 s", "5S", "1d", "1h30", "1,5h", "٣s", "5s ", "1e3s", "9999999999h"],
)
def test_what_go_refuses_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is (not|too)"):
        grammar.parse_duration(text)


@given(st.integers(0, 10**12).map(lambda microseconds: microseconds / 1e6))
def test_a_duration_survives_being_written(seconds: float) -> None:
    assert grammar.parse_duration(grammar.format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["h", "m", "s", "ms"])), min_size=1, max_size=6)
)
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    factor = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    text = "".join(f"{amount}{unit}" for amount, unit in parts)
    assert grammar.parse_duration(text) == pytest.approx(sum(amount * factor[unit] for amount, unit in parts))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64KiB", 65536),
        ("64kib", 65536),
        ("1 MiB", 1 << 20),
        ("10MB", 10**7),
        ("1.5KiB", 1536),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert grammar.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "KiB", "64X", "1.2.3", "0.3", "64KiBs", "1_000", "٣", "9" * 40])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is (not|too)"):
        grammar.parse_size(text)


@given(st.integers(0, 2**50))
def test_a_size_survives_being_written(size: int) -> None:
    assert grammar.parse_size(grammar.format_size(size)) == size


@given(st.text(max_size=30))
def test_no_text_makes_a_grammar_fail_in_another_way(text: str) -> None:
    parsers = (
        grammar.parse_duration,
        grammar.parse_size,
        grammar.parse_port,
        grammar.parse_count,
        grammar.parse_rate,
        grammar.parse_bool,
        grammar.parse_base_url,
        grammar.parse_database_url,
        grammar.list_of(grammar.parse_origin),
        grammar.list_of(grammar.parse_network),
    )
    for parse in parsers:
        try:
            parse(text)
        except ValueError as error:
            assert re.match(r"(is|has|must|may) ", str(error)), error


@given(st.sampled_from([field.variable for field in config.fields()]), st.text(max_size=40))
def test_any_value_of_any_setting_is_taken_or_refused_by_name(variable: str, text: str) -> None:
    try:
        load({variable: text}, dotenv=None)
    except SettingError as error:
        assert "\n" not in str(error)
        assert error.variable.partition("=")[0] in config.variables()


# What a person sets


def test_without_any_variable_everything_has_a_default() -> None:
    settings = from_env()
    assert (settings.port, settings.environment, settings.jwt_expiration) == (8080, "development", 24 * 3600)
    assert settings.database_url is None


def test_an_empty_variable_counts_as_absent() -> None:
    assert from_env(PORT="", PUBLIC_URL="  ").port == 8080


def test_values_of_every_kind_are_read() -> None:
    settings = from_env(
        PORT="9000",
        JWT_EXPIRATION="1h30m",
        WS_FRAME_LIMIT="128KiB",
        RATE_FRAMES_PER_SECOND="2.5",
        PUBLIC_URL="https://Veza.Example/",
        TRUSTED_PROXIES="10.0.0.0/8, ::1",
        ALLOWED_ORIGINS="https://app.example,http://dev.example:*",
        VEZA_DATA="/srv/veza",
        LOG_FORMAT="JSON",
        ENVIRONMENT="production",
        **GOOD_SECRETS,
    )
    assert settings.port == 9000
    assert settings.jwt_expiration == 5400
    assert settings.ws_frame_limit == 131072
    assert settings.rate_frames_per_second == 2.5
    assert settings.public_url == "https://veza.example"
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert settings.allowed_origins == ("https://app.example", "http://dev.example:*")
    assert settings.data == Path("/srv/veza")
    assert settings.log_format == "json"


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("PORT", "eighty", "0 to 65535"),
        ("PORT", "65536", "0 to 65535"),
        ("PORT", "-1", "0 to 65535"),
        ("JWT_EXPIRATION", "24", "1h30m"),
        ("WS_FRAME_LIMIT", "big", "64KiB"),
        ("DB_POOL_SIZE", "0", "at least 1"),
        ("RATE_FRAMES_PER_SECOND", "nan", "above 0"),
        ("LOG_FORMAT", "xml", "console, json"),
        ("ENVIRONMENT", "staging", "development, production"),
        ("PUBLIC_URL", "veza.example", "https://veza.example"),
        ("PUBLIC_URL", "https://veza.example/app", "https://veza.example"),
        ("ALLOWED_ORIGINS", "*", "origins"),
        ("ALLOWED_ORIGINS", "https://good.example, bad", "'bad'"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.1/8"),
        ("DATABASE_URL", "mysql://x/y", "postgresql://"),
        ("TLS_CERT", "/nowhere/cert.pem", "TLS_KEY"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_it_and_says_what_to_write(
    variable: str, value: str, hint: str
) -> None:
    line = refusal(**{variable: value})
    assert variable in line
    assert hint in line


def test_a_refusal_never_shows_a_secret() -> None:
    assert "hunter2" not in refusal(DATABASE_URL="mysql://root:hunter2@db/veza")
    assert "hunter2" not in refusal(ENVIRONMENT="production", JWT_SECRET="hunter2", SECRET_KEY="s" * 32)


def test_the_settings_shown_hold_no_secret() -> None:
    settings = from_env(
        JWT_SECRET="hunter2hunter2", DATABASE_URL="postgresql://u:hunter2@db/v", SMTP_PASSWORD="hunter2"
    )
    assert "hunter2" not in repr(settings) + str(settings) + f"{settings}"
    assert "port=8080" in repr(settings)


def test_a_certificate_needs_its_key_and_both_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("x")
    (tmp_path / "key.pem").write_text("x")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    assert from_env(TLS_CERT=cert, TLS_KEY=key).tls_key == tmp_path / "key.pem"
    assert "TLS_KEY" in refusal(TLS_CERT=cert)
    assert "not a file we can read" in refusal(TLS_CERT=cert, TLS_KEY=str(tmp_path / "other.pem"))


# The database


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"DB_NAME": "v"}, "postgresql://postgres@localhost:5432/v"),
        ({"DB_HOST": "db"}, "postgresql://postgres@db:5432/veza"),
        (
            {
                "DB_HOST": "db",
                "DB_PORT": "6",
                "DB_USERNAME": "a b",
                "DB_PASSWORD": "p@ss:/w",
                "DB_NAME": "x/y",
            },
            "postgresql://a%20b:p%40ss%3A%2Fw@db:6/x%2Fy",
        ),
        ({"DB_HOST": "::1"}, "postgresql://postgres@[::1]:5432/veza"),
        ({"DB_HOST": "/run/pg"}, "postgresql://postgres@/veza?host=/run/pg&port=5432"),
        ({"DB_PORT": "5433"}, None),  # neither a host nor a name: the server's own database
    ],
)
def test_a_database_url_is_put_together_from_its_parts(parts: dict[str, str], url: str | None) -> None:
    assert from_env(**parts).database_url == url


def test_a_whole_database_url_counts_more_than_parts() -> None:
    assert from_env(DATABASE_URL="postgres://u@h/n", DB_HOST="other").database_url == "postgres://u@h/n"


def test_a_wrong_database_port_is_named() -> None:
    assert "DB_PORT" in refusal(DB_HOST="db", DB_PORT="x")


# Production


def test_production_starts_with_proper_secrets() -> None:
    assert from_env(ENVIRONMENT="production", **GOOD_SECRETS).production


@pytest.mark.parametrize("variable", ["JWT_SECRET", "SECRET_KEY"])
@pytest.mark.parametrize(
    ("secret", "why"), [("", "missing"), ("your-super-secret-key", "placeholder"), ("s" * 31, "short")]
)
def test_production_refuses_secrets_that_are_none(variable: str, secret: str, why: str) -> None:
    line = refusal(ENVIRONMENT="production", **{**GOOD_SECRETS, variable: secret})
    assert line.startswith(variable)
    assert why in line


def test_production_refuses_mail_whose_links_would_lead_nowhere() -> None:
    production = {"ENVIRONMENT": "production", "SMTP_HOST": "mail", **GOOD_SECRETS}
    assert refusal(**production).startswith("PUBLIC_URL")
    assert from_env(**production, PUBLIC_URL="https://veza.example").smtp_host == "mail"


def test_only_development_lets_pages_of_any_local_port_in() -> None:
    assert "http://localhost:*" in from_env().allowed_origins
    assert from_env(ENVIRONMENT="production", **GOOD_SECRETS).allowed_origins == ()


# Secrets that development makes


def test_missing_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    settings = from_env(VEZA_DATA=str(tmp_path / "new" / "data"))
    first, second = settings.with_secrets(), settings.with_secrets()
    assert len(first.jwt_secret) >= 32
    assert first.jwt_secret != first.secret_key
    assert (second.jwt_secret, second.secret_key) == (first.jwt_secret, first.secret_key)
    file = tmp_path / "new" / "data" / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["secrets.json"]


def test_a_secret_that_is_set_counts_more_than_a_made_one(tmp_path: Path) -> None:
    settings = from_env(VEZA_DATA=str(tmp_path), JWT_SECRET="mine").with_secrets()
    assert settings.jwt_secret == "mine"
    assert len(settings.secret_key) >= 32


def test_nothing_is_written_when_all_secrets_are_set(tmp_path: Path) -> None:
    from_env(VEZA_DATA=str(tmp_path / "data"), **GOOD_SECRETS).with_secrets()
    assert not (tmp_path / "data").exists()


def test_many_first_starts_at_once_agree_on_the_secrets(tmp_path: Path) -> None:
    settings = from_env(VEZA_DATA=str(tmp_path))
    found: list[str] = []
    ready = threading.Barrier(16)

    def start() -> None:
        ready.wait(60)
        found.append(settings.with_secrets().jwt_secret)

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 16
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"jwt_secret": "short", "secret_key": "short"}', "\x00"]
)
def test_a_damaged_secrets_file_is_told_and_not_overwritten(tmp_path: Path, content: str) -> None:
    (tmp_path / "secrets.json").write_text(content)
    with pytest.raises(SettingError, match=r"secrets\.json"):
        from_env(VEZA_DATA=str(tmp_path)).with_secrets()
    assert (tmp_path / "secrets.json").read_text() == content


def test_a_data_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"^VEZA_DATA=.*cannot be used: "):
        from_env(VEZA_DATA=str(tmp_path / "file" / "data")).with_secrets()


# The file .env


def test_the_environment_counts_more_than_the_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "# ours\nexport PORT=9001\nPUBLIC_URL='https://veza.example' # quoted\nJWT_SECRET=a$b${PORT}\n"
    )
    settings = load({"PORT": "9002"}, dotenv)
    assert settings.port == 9002
    assert settings.public_url == "https://veza.example"
    assert settings.jwt_secret == "a$b${PORT}"  # `$` has no meaning


def test_a_broken_line_of_the_file_is_told_by_its_number(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("PORT=9001\nwhat is 'this\n")
    with pytest.raises(SettingError, match=r"line 2"):
        load({}, dotenv)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match=r"\.env"):
        load({}, tmp_path / ".env")


# The object


def test_every_setting_has_a_sentence_and_a_grammar() -> None:
    for field in config.fields():
        assert field.doc, f"{field.variable} has no documentation beside its type"
        assert field.kind is not None or field.type in (str, Path) or get_origin(field.type) is not None, (
            f"{field.variable}: say how it is written (Duration, Size, Count, Rate)"
        )
        if get_origin(field.type) is not None and field.kind is None:
            assert field.default in get_args(field.type)


def test_no_two_settings_share_a_variable() -> None:
    assert len(config.variables()) == len(config.fields()) + len(config.DATABASE_PARTS)


def test_the_defaults_survive_being_written_as_text() -> None:
    for field in config.fields():
        if field.kind is config.Kind.DURATION:
            assert grammar.parse_duration(grammar.format_duration(field.default)) == field.default
        elif field.kind is config.Kind.SIZE:
            assert grammar.parse_size(grammar.format_size(field.default)) == field.default


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        from_env().port = 1  # type: ignore[misc]
    assert msgspec.structs.replace(from_env(), port=1).port == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_we_may_not_write_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingError, match="permission denied"):
        from_env(VEZA_DATA=str(tmp_path)).with_secrets()
