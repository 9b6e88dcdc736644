"""What a visitor sees and does at /console, in a real browser before a real service.

Long, because every control has its test, and all of them share one service and one browser.
"""

import json
import math
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from console_pages import HOSTILE, Open, Opened, Served
from playwright.sync_api import Error, Locator, Page, Route, expect

ITEMS = [f"i{n}" for n in range(24)]


def rows(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True).get_by_role("listitem")


def names(page: Page, name: str) -> list[str]:
    return [text.removesuffix(" ★") for text in rows(page, name).locator(".name").all_text_contents()]


def paste(page: Page, text: str) -> None:
    page.get_by_label("A list of the log").select_option(label="Paste one")
    page.get_by_label("Request, JSON list of ids, or ids").fill(text)


def set_to(slider: Locator, value: float) -> None:
    """As dragging does."""
    slider.evaluate(
        "(input, to) => { input.value = to; input.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def until(opened: Opened, **expected: Any) -> None:
    """Until a rerank was asked for whose reasoning, or the body itself, has these."""
    page = opened.page
    for _ in range(300):
        body = opened.reasoned
        if expected.items() <= {**body, **body.get("reasoning", {}), **body.get("sampling", {})}.items():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{expected} in {opened.reasoned}")


@pytest.mark.parametrize("width", [390, 1400])
def test_it_is_for_everybody(opened: Open, width: int) -> None:
    """Axe finds nothing in light and dark, nothing is wider than the page, and no script fails."""
    started = time.monotonic()
    it = opened(width)
    print(f"the first list after {time.monotonic() - started:.2f} s at {width} pixels")
    page = it.page
    until_told(page)
    backgrounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(backgrounds) == 2
    assert it.errors == []


def until_told(page: Page) -> None:
    """Until the page has drawn how the list came about."""
    expect(page.locator("table.heat")).to_be_visible()
    expect(page.locator(".chart canvas").first).to_be_visible()


def test_the_lists_are_the_services(opened: Open, served: Served) -> None:
    it = opened()
    page = it.page
    assert names(page, "As sent") == [f"Title {item}" for item in ITEMS]
    assert rows(page, "As sent").locator(".liked").count() == 2
    for name, body in (("With reasoning", it.reasoned), ("Without reasoning", it.bodies[-1])):
        assert body["user_id"].startswith("console-")
        answer = served.post("/v1/rerank", body)
        assert names(page, name) == [f"Title {result['id']}" for result in answer["results"]]
        moved = [result["index"] - place for place, result in enumerate(answer["results"])]
        told = rows(page, name).locator(".moved .hidden").all_text_contents()
        assert told == [f"up {n}" if n > 0 else f"down {-n}" if n else "not moved" for n in moved]
    both = set(names(page, "Without reasoning")) & set(names(page, "With reasoning"))
    assert [lines.locator("path").count() for lines in page.locator("svg.lines").all()] == [10, len(both)]
    page.get_by_label("Beside it, without reasoning").uncheck()
    expect(page.locator(".slate")).to_have_count(2)
    assert names(page, "Re-ranked") == [
        f"Title {r['id']}" for r in served.post("/v1/rerank", it.reasoned)["results"]
    ]


def test_why_the_list_is_as_it_is(opened: Open, served: Served) -> None:
    it = opened()
    page = it.page
    set_to(page.get_by_label("Threshold", exact=True), 0)
    set_to(page.get_by_label("Budget", exact=True), 3)
    until(it, entropy_threshold=0, max_tokens=3)
    expect(page.get_by_text("30 reasoning tokens.")).to_be_visible()
    reasoning = served.post("/v1/rerank", it.reasoned)["reasoning"]
    table = page.get_by_role("region", name="Positions").get_by_role("table")
    for row, position in zip(table.locator("tbody tr").all(), reasoning["trace"], strict=True):
        place, item, tokens, entropy, uncertainty, stopped = row.locator("td, th").all_text_contents()
        assert (place, item, tokens) == (str(position["position"] + 1), f"Title {position['id']}", "3")
        assert entropy == f"{position['entropy_before']:.2f} → {position['entropy_after']:.2f}"
        assert uncertainty == f"{position['uncertainty']:.4f}"
        assert stopped == "budget spent"
    page.get_by_role("button", name="4", exact=True).click()
    steps = reasoning["trace"][3]["steps"]
    heat = page.locator("table.heat")
    assert heat.locator("thead th").all_text_contents() == ["Item", "before", "token 1", "token 2", "token 3"]
    shown = {
        cells[0]: cells[1:]
        for row in heat.locator("tbody tr").all()
        if (cells := row.locator("th, td").all_text_contents())
    }
    for place, step in enumerate(steps):
        told = {
            f"Title {ITEMS[i]}": p for i, p in zip(step["candidates"], step["probabilities"], strict=True)
        }
        for name, cells in shown.items():
            if name in told:
                assert float(cells[place]) == pytest.approx(100 * told[name], abs=0.51)
            else:
                assert cells[place] == "·"
    assert heat.locator("tr.picked th").inner_text() == f"Title {reasoning['trace'][3]['id']}"
    slider = page.get_by_label("Step through the tokens")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.get_by_text(f"before any token: {steps[0]['entropy']:.2f} nats")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(heat.locator("thead th.now")).to_have_text("token 1")


def test_every_slider_asks_anew_and_goes_back(opened: Open) -> None:
    it = opened()
    page = it.page
    for label, value, field, expected in (
        ("Threshold", 0.5, "entropy_threshold", 0.5),
        ("Budget", 1, "max_tokens", 1),
        ("Reasoning temperature", 50, "temperature", 1),
        ("Deadline", 100, "deadline_ms", 60000),
        ("List length", 5, "top_n", 5),
    ):
        set_to(page.get_by_label(label, exact=True), value)
        until(it, **{field: expected})
        page.get_by_label(f"{label}: back to the default").click()
        expect(page.get_by_label(f"{label}: back to the default")).to_be_disabled()
    page.get_by_label("Budget", exact=True).focus()
    page.keyboard.press("Home")
    until(it, max_tokens=0)
    page.get_by_role("button", name="All defaults").click()
    expect(page.get_by_label("Budget", exact=True)).to_have_value("2")
    page.get_by_label("Sample", exact=True).check()
    page.get_by_label("Seed").fill("7")
    set_to(page.get_by_label("Selection temperature", exact=True), 50)
    until(it, seed=7, temperature=1)


def test_a_deadline_that_cannot_be_met_is_told(opened: Open) -> None:
    page = opened().page
    set_to(page.get_by_label("Deadline", exact=True), 0)
    expect(
        page.get_by_text(re.compile("As sent: the (deadline passed|service is overloaded)"))
    ).to_have_count(2)
    assert names(page, "With reasoning") == [f"Title {item}" for item in ITEMS[:10]]


def test_what_is_liked_changes_the_next_list(opened: Open, served: Served) -> None:
    it = opened()
    page = it.page
    history = page.get_by_role("list", name="Liked, the oldest first").get_by_role("listitem")
    assert [text.strip() for text in history.locator("span").all_text_contents()] == [
        "Title i30",
        "Title i31",
    ]
    expect(page.get_by_text("2 liked; 1 more were seen.")).to_be_visible()
    before = served.post("/v1/rerank", it.reasoned)["results"]
    page.get_by_role("button", name="Like Title").first.click()
    expect(page.locator("p.status").first).to_contain_text("is liked; this is the next list")
    expect(history).to_have_count(3)
    user = it.reasoned["user_id"]
    assert served.history(user) == ["i32", "i30", "i31", before[0]["id"]]
    after = served.post("/v1/rerank", it.reasoned)["results"]
    assert [result["score"] for result in after] != [result["score"] for result in before]
    expect(rows(page, "With reasoning").first).to_contain_text(f"Title {after[0]['id']}")
    page.get_by_label("Take Title i30 out of the history").click()
    page.get_by_label("Liked item").fill("i40")
    page.get_by_role("button", name="Add").click()
    expect(history).to_have_count(3)
    expect(history.last).to_contain_text("i40")
    page.get_by_role("button", name="Forget it all").click()
    expect(page.get_by_text("Nothing yet")).to_be_visible()


def test_nobody_and_known_users(opened: Open, served: Served) -> None:
    it = opened()
    page = it.page
    served.post("/v1/users/known/events", {"events": [{"item_id": "i50", "type": "click"}]})
    page.get_by_label("Nobody").check()
    page.wait_for_function("document.querySelector('.status').textContent === ''")
    for _ in range(100):
        if "user_id" not in it.reasoned:
            break
        page.wait_for_timeout(50)
    assert "user_id" not in it.reasoned
    page.get_by_label("A known user").check()
    assert page.get_by_label("User id").input_value() == "u1"
    page.get_by_label("User id").fill("stranger")
    expect(page.get_by_text("Nothing is known of this user yet.")).to_be_visible()
    page.get_by_label("User id").fill("known")
    expect(page.get_by_text("Nothing is known of this user yet.")).to_have_count(0)
    until(it, user_id="known")
    page.get_by_role("button", name="Like Title").first.click()
    expect(page.locator("p.status").first).to_contain_text("is liked; this is the next list")
    assert len(served.history("known")) == 2


def test_what_is_pasted_is_ranked_or_its_fault_is_told(opened: Open) -> None:
    it = opened()
    page = it.page
    paste(page, "")
    expect(page.get_by_text("Paste a request, a JSON list of ids, or one id a line.")).to_be_visible()
    page.get_by_label("Request, JSON list of ids, or ids").fill('{"items": [')
    expect(page.get_by_text("No JSON:")).to_be_visible()
    page.get_by_label("Request, JSON list of ids, or ids").fill('{"items": [{"score": 1}]}')
    expect(page.get_by_text('items.0 has no "id"')).to_be_visible()
    page.get_by_label("Request, JSON list of ids, or ids").fill("i1, i2\ni3")
    expect(rows(page, "As sent")).to_have_count(3)
    page.get_by_label("Request, JSON list of ids, or ids").fill('["i1", "i2", "i1"]')
    expect(page.get_by_role("alert")).to_contain_text("items.2.id: 'i1' occurs twice")
    request = {"items": [{"id": "i5", "features": {"colour": "red"}}, {"id": "new"}], "user_id": "u9"}
    page.get_by_label("Request, JSON list of ids, or ids").fill(json.dumps(request))
    expect(page.get_by_text("Not in the catalogue: new.")).to_be_visible()
    expect(page.get_by_text("Not used: items.features.colour.")).to_be_visible()
    assert it.reasoned["user_id"] == "u9"


def test_ids_and_titles_are_text(opened: Open) -> None:
    it = opened()
    page = it.page
    page.get_by_label("A list of the log").select_option(index=1)
    expect(rows(page, "As sent").first.locator(".name")).to_have_text(HOSTILE)
    assert names(page, "As sent") == [HOSTILE, HOSTILE, "i2"]
    expect(page.get_by_text("Not in the catalogue")).to_contain_text(HOSTILE)
    assert page.locator("img").count() == 0
    assert page.title() == "Console · EGLR re-ranker"


def test_scripts_and_answers_of_others_are_refused(opened: Open) -> None:
    it = opened()
    page = it.page
    ran = page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        "document.body.append(script); return Boolean(window.ran); }"
    )
    assert ran is False
    assert page.evaluate("fetch('data:text/plain,x').then(() => 'answered', () => 'refused')") == "refused"
    assert len(it.errors) >= 2
    assert all("Content Security Policy" in error for error in it.errors)
    it.errors.clear()


def test_long_lists_are_cut_in_the_page_alone(opened: Open) -> None:
    it = opened()
    page = it.page
    started = time.monotonic()
    paste(page, ", ".join(f"i{n}" for n in range(2000)))  # the browser types lines slowly
    expect(page.get_by_text("and 1900 more")).to_be_visible()
    print(f"2,000 items after {time.monotonic() - started:.2f} s")
    expect(rows(page, "As sent")).to_have_count(100)
    assert len(it.reasoned["items"]) == 2000


def test_the_latest_of_slow_answers_wins(opened: Open) -> None:
    it = opened()
    page = it.page
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "top_n" in route.request.post_data_json and route.request.post_data_json["top_n"] == 3:
            held.append(route)
        else:
            route.continue_()

    page.route("**/v1/rerank", hold)
    set_to(page.get_by_label("List length", exact=True), 3)
    expect(page.get_by_text("Asking …")).to_be_visible()
    expect(page.locator("section[aria-busy=true]")).to_have_count(1)
    set_to(page.get_by_label("List length", exact=True), 4)
    expect(rows(page, "With reasoning")).to_have_count(4)
    for route in held:
        with suppress(Error):  # the page does not wait for it any more
            route.continue_()
    page.wait_for_timeout(100)
    assert rows(page, "With reasoning").count() == 4
    assert len(held) == 2


def test_a_service_that_fails_is_told_and_asked_again(opened: Open) -> None:
    page = opened().page
    refusal = {"error": "overloaded", "error_type": "overloaded", "request_id": "r"}
    page.route(
        "**/v1/rerank",
        lambda route: route.fulfill(status=429, headers={"retry-after": "2"}, body=json.dumps(refusal)),
    )
    set_to(page.get_by_label("List length", exact=True), 3)
    expect(page.get_by_role("alert")).to_have_text("Overloaded. Again in 2 s.")
    assert rows(page, "With reasoning").count() == 10, "the list of before stays"
    page.unroute("**/v1/rerank")
    page.route("**/v1/rerank", lambda route: route.abort())
    set_to(page.get_by_label("List length", exact=True), 4)
    expect(page.get_by_role("alert")).to_have_text("The service does not answer.")
    page.unroute("**/v1/rerank")
    set_to(page.get_by_label("List length", exact=True), 5)
    expect(rows(page, "With reasoning")).to_have_count(5)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_key_is_asked_for_and_kept_in_the_tab(opened: Open, served: Served) -> None:
    page = opened(key=None, wait=False).page
    expect(page.get_by_text("This service asks for one.")).to_be_visible()
    key = page.get_by_label("API key")
    key.fill("rk_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("An API key is needed")).to_be_visible()
    key.fill(served.weak)
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_role("alert")).to_contain_text("This key is not for 'users'.")
    page.get_by_label("Nobody").check()
    expect(page.locator(".slate")).to_have_count(3)
    expect(page.get_by_text("Its metrics: this key is not for 'metrics'")).to_be_visible()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert page.evaluate("Object.values(sessionStorage)") == [served.weak]
    page.get_by_role("button", name="Forget the API key").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_key_that_is_typed_outlives_the_answer_to_the_last_one(opened: Open, served: Served) -> None:
    page = opened(key=None, wait=False).page
    key = page.get_by_label("API key")
    key.fill("rk_wrong")
    held: list[Route] = []
    asked = re.compile("console/setup|v1/models")
    page.route(asked, lambda route: held.append(route))
    with page.expect_request("**/v1/models"):
        page.keyboard.press("Enter")
    key.fill(served.key)
    for route in held:
        route.continue_()
    page.unroute(asked)
    expect(page.get_by_text("An API key is needed")).to_be_visible()
    expect(key).to_have_value(served.key)
    page.get_by_role("button", name="Use it").click()
    expect(page.locator(".slate")).to_have_count(3)


def test_the_command_does_the_same(opened: Open, served: Served) -> None:
    it = opened()
    page = it.page
    page.get_by_label("Nobody").check()
    command = page.locator("#command")
    expect(command).not_to_contain_text("user_id")
    assert served.key not in page.content()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == command.inner_text()
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here to try the command with")
    run = subprocess.run(
        ["sh", "-c", text], env={**os.environ, "EGLR_KEY": served.key}, capture_output=True, check=True
    )
    ranked = [re.compile(rf"^Title {result['id']}( ★)?$") for result in json.loads(run.stdout)["results"]]
    # The page's own answer may still be on its way.
    expect(rows(page, "With reasoning").locator(".name")).to_have_text(ranked)


def test_the_services_figures_are_shown(opened: Open, served: Served) -> None:
    page = opened(wait=False).page
    expect(page.get_by_text("Requests a second")).to_be_visible()
    figures = page.locator(".figures dd")
    for _ in range(100):
        served.post("/v1/rerank", {"items": [{"id": item} for item in ITEMS]})
        told = dict(
            zip(page.locator(".figures dt").all_text_contents(), figures.all_text_contents(), strict=True)
        )
        if "n/a" not in told.values():
            break
        page.wait_for_timeout(100)
    assert float(told["Requests a second"]) > 0
    assert 0 < float(told["p50"].removesuffix(" ms")) <= float(told["p99"].removesuffix(" ms"))
    assert 0 < float(told["Entropy before"].removesuffix(" nats")) < math.log(24)
    assert told["Fallbacks"].endswith(" %")


def test_metrics_on_the_admin_port_are_said_to_be_there(opened: Open, served: Served) -> None:
    it = opened(wait=False, key=None)

    def elsewhere(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "admin_port": 9100})

    it.page.route("**/console/setup", elsewhere)
    it.page.get_by_label("API key").fill(served.key)
    it.page.keyboard.press("Enter")
    expect(it.page.get_by_text("Its metrics are on the admin port, 9100")).to_be_visible()


def test_quantiles_are_prometheuss(opened: Open) -> None:
    page = opened(wait=False, key=None).page

    def exposed(counts: dict[str, int], requests: int) -> str:
        name = "rerank_request_duration_seconds_bucket"
        lines = [
            f'{name}{{endpoint="/v1/rerank",outcome="served",le="{le}"}} {n}' for le, n in counts.items()
        ]
        other = [f'{name}{{endpoint="/livez",outcome="served",le="0.01"}} 1000']
        total = [f'rerank_requests_total{{endpoint="/v1/rerank",code="200"}} {requests}.0']
        return "\n".join(["# HELP it", *lines, *other, *total])

    told = page.evaluate(
        "async ([before, after]) => { const { between, read } = await import('./console/metrics.js');"
        "return between(read(before, 10), read(after, 14)); }",
        [
            exposed({"0.01": 5, "0.02": 5, "+Inf": 5}, 5),
            exposed({"0.01": 65, "0.02": 95, "+Inf": 105}, 105),
        ],
    )
    assert told["rate"] == 25
    assert told["p50"] == pytest.approx(1000 * 0.01 * 50 / 60)
    assert told["p99"] == pytest.approx(20.0)
    assert told["entropyBefore"] is None


def test_the_keyboard_reaches_everything(opened: Open) -> None:
    page = opened().page
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(() => { const at = document.activeElement;"
                "return at.getAttribute('aria-label') ?? at.labels?.[0]?.innerText ?? at.innerText; })()"
            ).strip()
        )
    for label in ("Model", "A list of the log", "Threshold", "Budget", "Deadline", "Sample"):
        assert label in reached
    assert any(re.match("Like ", label) for label in reached)
