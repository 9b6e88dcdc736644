"""Snippets of README and docs/ do what they say: requests are answered, code runs, what is quoted is real."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from unittest.mock import patch

import pytest
from snippets import ROOT, Block, blocks, commands

from bundle.features.schema import FeatureSchema
from decisions.lines import Decision, Feedback, Forgotten
from decisions.lines import decode as decode_line
from launch.service import ServiceProcess
from service.api.console import read_lists
from service.bodies.rerank import RerankRequest

COMMANDS = commands()
SNIPPETS = [one for one in blocks() if not one.is_shell]
CODE = ("from ", "import ")


def is_decision(text: str) -> None:
    assert isinstance(decode_line(text), Decision)


def is_feedback(text: str) -> None:
    assert isinstance(decode_line(text), Feedback)


def is_forgotten(text: str) -> None:
    assert isinstance(decode_line(text), Forgotten)


def is_part_of_a_request(text: str) -> None:
    matrix = json.loads("{" + text.replace("<base64>", "AAAAAAAAAAAAAAAA") + "}")
    RerankRequest.model_validate({"items": [{"id": "i1"}], **matrix})


def is_a_list_of_the_console(text: str) -> None:
    with NamedTemporaryFile("w") as file:
        file.write(json.dumps(json.loads(text)))
        file.flush()
        assert read_lists(Path(file.name))


def is_a_replayed_line(text: str) -> None:
    line = json.loads(text)
    body = RerankRequest.model_validate(line["body"])
    assert set(line["clicked"]) <= {item.id for item in body.items}


def are_fields(text: str) -> None:
    FeatureSchema.model_validate(tomllib.loads(text)["features"])


def is_a_configuration(text: str) -> None:
    from model.training.config import read_config, with_changes

    with_changes(read_config(ROOT / "configs/ranklens.toml"), tomllib.loads(text))


CHECKED: dict[tuple[str, str], Callable[[str], None] | str] = {
    ("docs/console.md", '{"name"'): is_a_list_of_the_console,
    ("docs/decision-log.md", '{"event":"decision"'): is_decision,
    ("docs/decision-log.md", '{"event":"feedback"'): is_feedback,
    ("docs/decision-log.md", '{"event":"forgotten"'): is_forgotten,
    ("docs/decision-log.md", "sources:"): "Vector's",
    ("docs/decision-log.md", "[INPUT]"): "Fluent Bit's",
    ("docs/decisions/micro-step-budget.md", "spare ="): "a formula",
    ("docs/deployment.md", "server {"): "nginx's",
    ("docs/extending.md", "[[features.fields]]"): are_fields,
    ("docs/load-testing.md", '{"at_s"'): is_a_replayed_line,
    ("docs/own-logs.md", '{"event"'): "tests/docs/test_own_logs.py",
    ("docs/own-logs.md", "[impressions]"): "tests/docs/test_own_logs.py",
    ("docs/serving.md", '"features_f32"'): is_part_of_a_request,
    ("docs/tracing-and-logs.md", "POST /v1/rerank"): "tests/service/observe/test_tracing.py",
    ("docs/tracing-and-logs.md", '{"timestamp"'): "tests/service/observe/test_logs.py",
    ("docs/tracing-and-logs.md", '{"level"'): "tests/service/observe/test_logs.py",
    ("docs/training.md", "[features]"): is_a_configuration,
    ("docs/reference/api.md", "{"): "tests/service/api/test_openapi.py",
    ("README.md", '{"request_id"'): "below",
}
"""Who checks what is neither a command nor code, or whose it is, by page and beginning."""


def checker(block: Block) -> Callable[[str], None] | str | None:
    found = [
        of for (page, start), of in CHECKED.items() if page == block.page and block.text.startswith(start)
    ]
    return found[0] if found else None


def test_every_snippet_is_checked() -> None:
    strays = [one for one in SNIPPETS if not one.text.startswith(CODE) and checker(one) is None]
    assert not strays
    used = {
        place
        for place in CHECKED
        for one in SNIPPETS
        if one.page == place[0] and one.text.startswith(place[1])
    }
    assert used == set(CHECKED)
    named = {of for of in CHECKED.values() if isinstance(of, str) and of.endswith(".py")}
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize(
    "block",
    [one for one in SNIPPETS if callable(checker(one))],
    ids=lambda one: f"{one.page} {one.text[:20]}",
)
def test_snippets_are_what_they_claim(block: Block) -> None:
    of = checker(block)
    assert callable(of)
    of(block.text)


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(bundle, "--drain-s", "0", "--default-deadline-ms", "10000") as running:
        yield running


def curl(words: tuple[str, ...], service: ServiceProcess) -> dict[str, Any]:
    """The answer to a command that is shown, which asks the usual port. Raises: CalledProcessError."""
    asked = [re.sub(r"^(127\.0\.0\.1|localhost):8080", service.url, word) for word in words[1:]]
    command = ["curl", "--fail-with-body", *asked]
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 0, f"{words}: {run.stdout} {run.stderr}"
    answer: dict[str, Any] = json.loads(run.stdout) if run.stdout else {}
    return answer


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("page", sorted({one.page for one in COMMANDS if one.words[0] == "curl"}))
def test_curl_is_answered(page: str, service: ServiceProcess) -> None:
    for one in COMMANDS:
        if one.page == page and one.words[0] == "curl":
            curl(one.words, service)


def shape(value: Any) -> Any:
    """Names and kinds without values; a list is as its first."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return float if isinstance(value, int | float) else type(value)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_answer_is_of_the_quoted_shape(service: ServiceProcess, tmp_path: Path) -> None:
    """With items that the served model knows."""
    quoted = next(one for one in SNIPPETS if one.page == "README.md" and one.text.startswith('{"request_id"'))
    body = json.loads((ROOT / "docs/example.json").read_text())
    body["items"] = [{"id": f"i{place}"} for place in range(len(body["items"]))]
    (tmp_path / "body.json").write_text(json.dumps(body))
    answer = curl(("curl", "-s", "localhost:8080/v1/rerank", "--json", f"@{tmp_path}/body.json"), service)
    assert shape(answer) == shape(json.loads(quoted.text))


@pytest.mark.parametrize(
    "block",
    [one for one in SNIPPETS if one.text.startswith(CODE)],
    ids=lambda block: block.page,
)
def test_python_runs(
    block: Block,
    service: ServiceProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for path in ROOT.iterdir():  # so that what it writes is not left there
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    code = block.text.replace("http://localhost:8080", service.url).replace(
        "deadline_ms=50", "deadline_ms=9999"
    )
    with patch.dict("model.policy.DECODERS"):  # a page registers one
        exec(compile(code, block.page, "exec"), {"__name__": "snippet"})
    assert "print(" not in code or capsys.readouterr().out
