"""The settings: what the environment may say, and what it is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import config
from orchestrator.errors import SettingsError

ROOT = Path(__file__).resolve().parents[1]


def test_an_empty_environment_gives_the_defaults() -> None:
    """`escrow demo` on a fresh machine would ask for configuration."""
    settings = config.load()

    assert settings.database_url is None
    assert settings.amqp_url is None
    assert settings.namespace == "escrow"
    assert settings.url == "http://127.0.0.1:8080"
    assert settings.metrics_address == "127.0.0.1:9464"


def test_variables_are_read_and_overrides_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed names of the environment would do nothing, or options of the command line would not win over them."""
    monkeypatch.setenv("ESCROW_DATABASE_URL", "postgresql+psycopg://u:p@db/escrow")
    monkeypatch.setenv("ESCROW_AMQP_URL", "amqp://u:p@mq/%2F")
    monkeypatch.setenv("ESCROW_NAMESPACE", "run-7.a")
    monkeypatch.setenv("ESCROW_LINGER_MS", "5")

    settings = config.load(linger_ms=7, namespace=None)

    assert settings.database_url == "postgresql+psycopg://u:p@db/escrow"
    assert settings.amqp_url == "amqp://u:p@mq/%2F"
    assert settings.namespace == "run-7.a"
    assert settings.linger_ms == 7


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ESCROW_DATABASE_URL", "postgresql://u:s3cret@db/x", "postgresql+psycopg://"),
        ("ESCROW_DATABASE_URL", "mysql://u:s3cret@db/x", "neither postgresql+psycopg"),
        ("ESCROW_AMQP_URL", "http://u:s3cret@mq/", "neither amqp://"),
        ("ESCROW_URL", "127.0.0.1:8080", "neither http://"),
        ("ESCROW_NAMESPACE", "amq.mine", "Prefix of every exchange"),
        ("ESCROW_NAMESPACE", "Ümlaut", "Prefix of every exchange"),
        ("ESCROW_DEFINITIONS", "/nowhere/at/all", "no such directory"),
        ("ESCROW_METRICS_ADDRESS", "9464", "not HOST:PORT"),
        ("ESCROW_METRICS_ADDRESS", "localhost:70000", "not HOST:PORT"),
        ("ESCROW_LOG_LEVEL", "loud", "'debug', 'info'"),
        ("ESCROW_BATCH_COUNT_MAX", "0", "From 1 to 5000."),
        ("ESCROW_BATCH_BYTES_MAX", "many", "integer"),
        ("ESCROW_REQUIRE_USER_ID", "perhaps", "true or false"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it_and_the_fix(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str) -> None:
    """A typing error would end in a traceback, say nothing useful, or show a password."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as caught:
        config.load()

    [line] = str(caught.value).splitlines()
    assert line.startswith(variable)
    assert says in line
    assert "Fix: " in line
    assert "s3cret" not in line


def test_every_bad_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator would find the mistakes one restart at a time."""
    monkeypatch.setenv("ESCROW_TICK_MS", "1")
    monkeypatch.setenv("ESCROW_PREFETCH_COUNT", "x")
    monkeypatch.setenv("ESCROW_LINGR_MS", "3")

    with pytest.raises(SettingsError) as caught:
        config.load()

    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[0] == "ESCROW_LINGR_MS is no setting of Escrow. Fix: did you mean ESCROW_LINGER_MS?"


def test_variables_of_the_tests_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer who names services for the tests could not start Escrow in the same shell."""
    monkeypatch.setenv("ESCROW_TEST_DATABASE_URL", "anything")

    assert config.load().database_url is None


def test_limits_that_contradict_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefetch below the batch would make every batch wait for its linger; a linger near the tick would delay deadlines."""
    monkeypatch.setenv("ESCROW_PREFETCH_COUNT", "10")
    with pytest.raises(SettingsError, match="ESCROW_PREFETCH_COUNT=10 is less than ESCROW_BATCH_COUNT_MAX=400"):
        config.load()
    monkeypatch.delenv("ESCROW_PREFETCH_COUNT")

    with pytest.raises(SettingsError, match="ESCROW_LINGER_MS=100 is more than half of ESCROW_TICK_MS=50"):
        config.load(linger_ms=100, tick_ms=50)


def test_what_a_command_needs_is_asked_for_by_name() -> None:
    """`escrow worker` without a database would fail somewhere deep down."""
    with pytest.raises(SettingsError) as caught:
        config.load().require("database_url", "amqp_url", "namespace")

    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == ["ESCROW_DATABASE_URL", "ESCROW_AMQP_URL"]
    assert all("Fix: " in line for line in lines)


@pytest.mark.parametrize(
    ("address", "parts"), [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0)), ("localhost:80", ("localhost", 80))]
)
def test_addresses_are_split(address: str, parts: tuple[str, int]) -> None:
    """An IPv6 address could not be listened on."""
    assert config.split_address(address) == parts


def test_passwords_are_masked() -> None:
    """A start-up line or an error of the doctor would show the database's password."""
    assert config.masked("amqp://u:s3cret@h:5672/%2F") == "amqp://u:***@h:5672/%2F"
    assert config.masked("sqlite:///escrow.sqlite3") == "sqlite:///escrow.sqlite3"
    assert config.masked(None) == "(not set)"
    secret = "s3cret"
    shown = repr(config.Settings(database_url=f"postgresql+psycopg://u:{secret}@h/d", amqp_url=f"amqp://u:{secret}@h/", token=secret))
    assert secret not in shown


def test_env_example_is_generated_from_the_settings() -> None:
    """`deploy/env.example` would lack a setting, or name one that is gone. Fix: python -m orchestrator.config > deploy/env.example."""
    written = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8")

    assert written == config.describe()
    for name in config.Settings.model_fields:
        assert f"\n#ESCROW_{name.upper()}=" in written
