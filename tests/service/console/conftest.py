"""The console in a real browser: one service, one Chromium, and a page of its own for each test."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_pages import Open, Opened, Served, lists
from playwright.sync_api import Browser, ConsoleMessage, expect, sync_playwright

from launch.debian import ProgramMissingError, program
from launch.service import ServiceProcess
from service.keys import new

FLAGS = (
    "--no-sandbox",  # root has none, and it sees this machine's pages alone
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ALL = ["rerank", "feedback", "users", "metrics"]


@pytest.fixture(scope="module")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("console")
    (key, lines), (weak, more) = new("all", ALL), new("weak", ["rerank"])
    (folder / "keys.toml").write_text(lines + more)
    (folder / "lists.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lists()))
    asked = {"api-keys-file": folder / "keys.toml", "console-lists": folder / "lists.jsonl", "drain-s": 0}
    arguments = [str(part) for name, value in asked.items() for part in (f"--{name}", value)]
    patience = {"RERANK_DEFAULT_DEADLINE_MS": "60000", "RERANK_MAX_DEADLINE_MS": "60000"}
    with ServiceProcess(bundle, *arguments, log=folder / "log", **patience) as service:
        yield Served(service.url, key, weak)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """As long as it is there, Playwright's event loop runs in this thread, and no async test can."""
    try:
        path = program("chromium")
    except ProgramMissingError as error:
        pytest.skip(str(error))
    expect.set_options(timeout=30_000)  # a busy machine fails no test
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def opened(served: Served, browser: Browser) -> Iterator[Open]:
    """`opened(width=390)`: the console, with the key, its first list answered.

    Afterwards no script has failed, and nothing was asked of anybody but the service.
    """
    pages: list[Opened] = []
    asked: list[str] = []

    def open_page(width: int = 1400, key: str | None = served.key, wait: bool = True) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900})
        if key is not None:
            context.add_init_script(f"sessionStorage.setItem('eglr.console.key', {json.dumps(key)})")
        it = Opened(context.new_page())
        it.page.set_default_timeout(30_000)
        pages.append(it)

        def heard(message: ConsoleMessage) -> None:
            if message.type == "error":
                it.errors.append(message.text)

        def sent(request: Any) -> None:
            asked.append(request.url)
            if request.url.endswith("/v1/rerank"):
                it.bodies.append(request.post_data_json)

        it.page.on("console", heard)
        it.page.on("pageerror", lambda error: it.errors.append(str(error)))
        it.page.on("request", sent)
        it.page.goto(f"{served.url}/console")
        if wait:
            expect(it.page.locator(".slate")).to_have_count(3 if width > 700 else 2)
        return it

    yield open_page
    for it in pages:
        it.page.context.close()
        # The browser tells an answer that is an error; whether one was to be expected, the test knows.
        assert [error for error in it.errors if not error.startswith("Failed to load resource")] == []
    assert {url for url in asked if not url.startswith(f"{served.url}/")} == set()
