"""Settings: environment, command line, help, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.__main__ import read_settings
from service.settings import Settings


def test_help_lists_every_setting_with_its_environment_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert f"[RERANK_{name.upper()}]" in text.replace("\n", " ")
        assert field.description


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_BUNDLE", "from-environment")
    monkeypatch.setenv("RERANK_PORT", "1234")
    monkeypatch.setenv("RERANK_REDIS_URL", "")
    settings = read_settings(["--port", "4321", "--require-provider", "false"])
    assert settings.bundle == Path("from-environment")
    assert settings.port == 4321
    assert settings.redis_url is None, "empty is unset"
    assert settings.require_provider is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--bundle: Field required"),
        (["--bundle", "b", "--port", "eighty"], "--port: Input should be a valid integer"),
        (["--bundle", "b", "--max-items", "0"], "--max-items: Input should be greater than 0"),
        (["--bundle", "b", "--header-timeout-s", "inf"], "--header-timeout-s: Input should be a finite"),
        (["--bundle", "b", "--port", "9", "--admin-port", "9"], "admin-port: it is the port, too"),
        (["--bundle", "b", "--api-keys-file", "/nowhere/keys"], "--api-keys-file: /nowhere/keys: "),
        (["--bundle", "b", "--api-keys", "[shop]"], "--api-keys: shop.sha256: Field required"),
        (["--bundle", "b", "--api-keys-file", "/nowhere", "--api-keys", ""], "--api-keys-file: /nowhere: "),
        (["--bundle", "b", "--provider", "tpu"], "--provider: Input should be 'cpu' or 'cuda'"),
        (["--bundle", "b", "--max-item", "3"], "--max-item"),
    ],
)
def test_bad_settings_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_settings_are_immutable_and_hide_the_redis_password() -> None:
    settings = Settings(bundle="b", redis_url="redis://:secret@host/0")
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
    assert "secret" not in repr(settings)
