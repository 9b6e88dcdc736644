"""`python -m service.keys new`: a key that its own lines let in."""

import re

import pytest

from service.keys import PREFIX, digest, main, read_grants


def test_a_new_key_fits_the_lines_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "--name", "shop", "--scopes", "rerank,feedback"]) == 0
    printed = capsys.readouterr().out
    (key,) = re.findall(rf"{PREFIX}[\w-]{{43}}", printed)
    (grant,) = read_grants(None, printed).values()
    assert grant.sha256 == [digest(key.encode())]
    assert grant.scopes == {"rerank", "feedback"}
    assert main(["new", "--scopes", "rerank"]) == 0
    assert key not in capsys.readouterr().out, "no key is made twice"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "--scopes", "all"], "no such scope: all"),
        (["new", "--scopes", "rerank", "--name", "a b]"], "--name"),
        (["new"], "--scopes"),
    ],
)
def test_what_cannot_be_made(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
