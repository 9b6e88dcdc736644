"""Commands that README and docs/ show exist, and take the arguments they are shown with."""

import argparse
import io
import os
import re
import runpy
import tomllib
import warnings
from contextlib import redirect_stderr, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import pytest
from snippets import OTHERS, OURS, ROOT, Command, blocks, commands, split

from service.settings import Settings

COMMANDS = commands()
IN_SENTENCES = ("the following arguments are required", "expected one argument", "value: 'N'")
"""What a command that is only named within a sentence may lack."""


class FoundError(Exception):
    """A module's parser, once it is asked for the first time."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


@cache
def parser_of(module: str) -> argparse.ArgumentParser | None:
    """The parser that `python -m module` begins with, or None if it reads no arguments."""
    spec = find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{module}.__main__")
    assert spec is not None, f"no module {module}"
    assert spec.origin is not None
    source = Path(spec.origin).read_text()
    assert '__name__ == "__main__"' in source, f"{module} is no command"
    if "argparse" not in source and "bundle_argument" not in source:
        return None

    def stop(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise FoundError(self)

    stopped = patch.object(argparse.ArgumentParser, "parse_known_args", stop)
    with warnings.catch_warnings(), patch.dict(os.environ), stopped:
        warnings.simplefilter("ignore")  # that a module is run which was imported before
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except FoundError as found:
            return found.parser
    raise AssertionError(f"{module} parses no arguments")


@cache
def locusts() -> str:
    """Sources that declare options of the load test. Locust itself would patch this process."""
    spec = find_spec("locust")
    assert spec is not None
    assert spec.origin is not None
    declared = Path(spec.origin).with_name("argument_parser.py").read_text()
    return declared + (ROOT / "loadtest/locustfile.py").read_text()


def unknown_to_locust(words: tuple[str, ...] | list[str]) -> list[str]:
    return [word for word in words if word.startswith("--") and f'"{word}"' not in locusts()]


def parsed(module: str, arguments: list[str], whole: bool) -> argparse.Namespace | None:
    """Raises: AssertionError: the module would refuse them."""
    parser = parser_of(module)
    if parser is None:
        assert not arguments, f"{module} takes no arguments"
        return None
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            namespace, rest = parser.parse_known_args(arguments)
    except SystemExit:
        assert not whole, told.getvalue()
        assert any(text in told.getvalue() for text in IN_SENTENCES), told.getvalue()
        return None
    assert not (unknown_to_locust(rest) if module == "loadtest" else rest), f"{module} has no {rest}"
    return namespace


def in_block(command: Command) -> bool:
    return any(
        command.words in split(block.text)
        for block in blocks()
        if block.page == command.page and block.is_shell
    )


FILES = {"console_lists"}
"""Settings that name a file which another command is to write."""

MODULES = [one for one in COMMANDS if one.words[:2] == ("python", "-m")]


@pytest.mark.parametrize(
    "module", sorted({one.words[2] for one in MODULES if (ROOT / one.words[2].split(".")[0]).is_dir()})
)
def test_modules_take_the_arguments_that_are_shown(module: str) -> None:
    shown = [one for one in MODULES if one.words[2] == module]
    assert shown
    for command in shown:
        arguments = [word.strip("[]") for word in command.words[3:]]
        ends = [place for place, word in enumerate(arguments) if word in ("|", ">")]
        arguments = arguments[: ends[0]] if ends else arguments
        namespace = parsed(module, arguments, in_block(command))
        if module == "service" and namespace is not None and "bundle" in namespace:
            for name in FILES & vars(namespace).keys():
                setattr(namespace, name, None)
            Settings(**vars(namespace))


def test_every_command_is_known() -> None:
    assert {one.words[0] for one in COMMANDS} <= OURS | OTHERS
    foreign = {one.words[2] for one in MODULES if not (ROOT / one.words[2].split(".")[0]).is_dir()}
    assert foreign <= {"venv"}


def test_make_has_the_targets_and_variables() -> None:
    makefile = (ROOT / "Makefile").read_text()
    shown = [word for one in COMMANDS if one.words[0] == "make" for word in one.words[1:]]
    assert {"demo", "test", "docs"} <= set(shown)
    for word in shown:
        name, has_value, value = word.partition("=")
        assert f"$({name})" in makefile if has_value else re.search(rf"^{name}:", makefile, re.MULTILINE), (
            word
        )
        assert name != "LOAD" or not unknown_to_locust(value.split())


def test_locust_has_the_options() -> None:
    shown = [one for one in COMMANDS if one.words[0] == "locust"]
    assert shown
    assert not [word for one in shown for word in unknown_to_locust(one.words)]


def test_torchrun_has_the_options() -> None:
    from torch.distributed.run import get_args_parser

    shown = [one for one in COMMANDS if one.words[0] == "torchrun"]
    assert shown
    for command in shown:
        told = io.StringIO()
        with redirect_stderr(told), suppress(SystemExit):
            assert get_args_parser().parse_args(list(command.words[1:])).module, "-m"
        assert not told.getvalue(), told.getvalue()


def test_what_pip_installs_is_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for one in COMMANDS:
        if one.words[0] == "pip":
            path, _, extra = one.words[-1].rstrip("]").partition("[")
            assert path == project["name"] or (ROOT / path / "pyproject.toml").exists()
            assert not extra or extra in project["optional-dependencies"]


def test_what_does_not_exist_is_found() -> None:
    for module, arguments in (
        ("export.calibrate", ["bundles/mine", "--latency", "0.3s"]),
        ("model.data", ["convert"]),
        ("evidence.report", ["--all"]),
        ("loadtest", ["--bundle", "b", "--runtime", "20s"]),
        ("service.run", []),
    ):
        with pytest.raises((AssertionError, ModuleNotFoundError)):
            parsed(module, arguments, whole=True)
