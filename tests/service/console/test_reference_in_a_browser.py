"""The description of the API at /docs, in a real browser before a real service."""

from console_pages import Served
from playwright.sync_api import Browser, expect


def test_it_asks_nobody_but_the_service(served: Served, browser: Browser) -> None:
    errors: list[str] = []
    asked: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{served.url}/docs")
        expect(page.locator("#operations-rerank-rerank_v1_rerank_post")).to_be_visible()
        page.locator(
            "#operations-users-forget_v1_users__user_id__context_delete, .opblock-delete"
        ).first.click()
        expect(page.get_by_role("button", name="Try it out").first).to_be_visible()
    assert errors == []
    assert {url for url in asked if not url.startswith((f"{served.url}/", "data:"))} == set()
