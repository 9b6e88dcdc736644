"""The command that changes what is served, as far as it needs no service."""

import pytest

from service.admin import main


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("shares films 1=0.5 1=1", "a version occurs twice"),
        ("shares films =1", "expected VERSION=SHARE"),
        ("shares films 1=most", "invalid"),
        ("shadow films --model books", "--model and --share go with a version"),
        ("shadow films --share 0", "--model and --share go with a version"),
    ],
)
def test_what_is_half_said_is_asked_of_nobody(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--url", "http://127.0.0.1:9", *command.split()])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
