"""What a newcomer sees in the chat, in Chromium, with a real gateway."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from app.tokens import issue_token
from config.sections import AuthSettings
from tests.browser.conftest import HMAC_SECRET, Server
from tests.line import Line

pytestmark = pytest.mark.browser

AGENT_EVENTS = ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"]
WATCH_THE_ANSWER = """threads => {
    window.seen = [];
    const look = () => window.seen.push(threads.querySelector('[data-testid=answer]').textContent);
    new MutationObserver(look).observe(threads, { childList: true, subtree: true });
}"""
Event = tuple[int, str]


async def open_window(browser: Browser, url: str) -> Page:
    """A window that shares nothing with others."""
    page = await (await browser.new_context()).new_page()
    await page.goto(url)
    return page


async def sign_in(page: Page, name: str) -> None:
    await page.get_by_test_id("name").fill(name)
    await page.get_by_test_id("sign-in").click()
    await has_state(page, "connected")


async def has_state(page: Page, state: str) -> None:
    # A reconnect waits half a second at most after the first failure, twice that after the next, and so on.
    await expect(page.get_by_test_id("status")).to_have_attribute("data-state", state, timeout=20_000)


async def say(page: Page, text: str) -> None:
    await page.get_by_test_id("text").fill(text)
    await page.get_by_test_id("send").click()


async def answered(page: Page, times: int = 1) -> None:
    await expect(page.locator("[data-type=agent_completed]")).to_have_count(times, timeout=15_000)


async def events(page: Page) -> list[Event]:
    """Offset and type of the events on the page, from the top."""
    items = page.get_by_test_id("events").get_by_role("listitem")
    shown: list[list[str]] = await items.evaluate_all("items => items.map(i => [i.dataset.offset, i.dataset.type])")
    return [(int(offset or 0), type_) for offset, type_ in shown]


def in_order(shown: list[Event]) -> bool:
    """Whether every event of the stream is there, once, in order."""
    return [offset for offset, _ in shown] == list(range(1, len(shown) + 1))


async def test_a_message_is_answered_by_the_five_events_in_order_and_the_right_number(
    browser: Browser, server: Server
) -> None:
    page = await open_window(browser, server.url)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(error.message))
    await sign_in(page, "ada")
    await say(page, "What is 12 * (3 + 4)?")
    await answered(page)

    shown = await events(page)
    assert in_order(shown)
    assert [type_ for _, type_ in shown if type_ != "token"] == ["user_message", *AGENT_EVENTS]
    between = [type_ for _, type_ in shown[5:-1]]
    assert len(between) > 5
    assert set(between) == {"token"}
    answer = page.get_by_test_id("answer")
    await expect(answer).to_have_text("12 * (3 + 4) = 84. I did it in 2 steps: 3 + 4 = 7; 12 × 7 = 84.")
    assert complaints == []


async def test_the_answer_grows_token_by_token(browser: Browser, server: Server) -> None:
    page = await open_window(browser, server.url)
    await sign_in(page, "grace")
    await page.get_by_test_id("threads").evaluate(WATCH_THE_ANSWER)
    await say(page, "6 * 7")
    await answered(page)
    seen: list[str] = await page.evaluate("window.seen")
    assert list(dict.fromkeys(seen)) == ["", "6 ", "6 * ", "6 * 7 ", "6 * 7 = ", "6 * 7 = 42."]


async def test_another_user_in_a_second_window_sees_nothing(browser: Browser, server: Server) -> None:
    first = await open_window(browser, server.url)
    second = await open_window(browser, server.url)
    await sign_in(first, "bob")
    await sign_in(second, "carol")
    await say(first, "6 * 7")
    await answered(first)
    # Carol's own answer comes after all of Bob's events: whatever of his were to reach her would be there by now.
    await say(second, "2 + 2")
    await answered(second)
    assert in_order(await events(second))
    await expect(second.get_by_test_id("threads")).not_to_contain_text("6 * 7")
    await expect(second.get_by_test_id("answer")).to_have_text("2 + 2 = 4.")
    await expect(first.get_by_test_id("answer")).to_have_text("6 * 7 = 42.")


async def test_a_second_tab_of_the_same_user_sees_everything(browser: Browser, server: Server) -> None:
    first = await open_window(browser, server.url)
    second = await open_window(browser, server.url)
    await sign_in(first, "dave")
    await sign_in(second, "dave")
    await say(first, "6 * 7")
    await say(second, "2 ^ 10")
    for page in (first, second):
        await answered(page, 2)
        assert in_order(await events(page))
        await expect(page.get_by_test_id("threads")).to_contain_text("6 * 7 = 42.")
        await expect(page.get_by_test_id("threads")).to_contain_text("2 ** 10 = 1024.")
    assert await events(first) == await events(second)


async def test_a_tab_that_lost_its_connection_shows_what_it_missed_once_and_in_order(
    browser: Browser, server: Server, line: Line
) -> None:
    lossy = await open_window(browser, line.url)
    steady = await open_window(browser, server.url)
    await sign_in(lossy, "erin")
    await sign_in(steady, "erin")
    await say(steady, "1 + 2 + 3 + 4 + 5")
    await expect(lossy.locator("[data-type=token]").first).to_be_visible()
    line.cut()
    await has_state(lossy, "reconnecting")
    await say(steady, "6 * 7")
    await answered(steady, 2)
    await expect(lossy.get_by_test_id("threads")).not_to_contain_text("6 * 7")

    await line.heal()
    await answered(lossy, 2)
    await has_state(lossy, "connected")
    shown = await events(lossy)
    assert in_order(shown)
    assert shown == await events(steady)


async def test_a_tab_without_network_says_so_and_comes_back(browser: Browser, server: Server) -> None:
    page = await open_window(browser, server.url)
    await sign_in(page, "frank")
    await page.context.set_offline(True)
    await has_state(page, "offline")
    async with server.api() as api:
        response = await api.post("/v1/users/frank/events", json={"type": "note", "data": {"text": "missed"}})
    assert response.is_success
    await page.context.set_offline(False)
    await expect(page.locator("[data-type=note]")).to_have_count(1)
    assert await events(page) == [(1, "note")]


async def test_a_reloaded_tab_shows_everything_once_and_in_order(browser: Browser, server: Server) -> None:
    page = await open_window(browser, server.url)
    await sign_in(page, "heidi")
    await say(page, "1 + 2 + 3 + 4 + 5")
    await expect(page.locator("[data-type=token]")).not_to_have_count(0)
    await page.reload()
    await answered(page)
    await has_state(page, "connected")
    shown = await events(page)
    assert in_order(shown)
    assert [type_ for _, type_ in shown if type_ != "token"] == ["user_message", *AGENT_EVENTS]
    await expect(page.get_by_test_id("answer")).to_contain_text("1 + 2 + 3 + 4 + 5 = 15")

    await page.reload()
    await answered(page)
    assert await events(page) == shown


async def test_what_the_gateway_no_longer_keeps_is_named_as_missing(
    browser: Browser, serve: Callable[..., Server]
) -> None:
    server = serve(BULKHEAD_HISTORY__SIZE="3")
    page = await open_window(browser, server.url)
    await sign_in(page, "ivan")
    await page.context.set_offline(True)
    await has_state(page, "offline")
    async with server.api() as api:
        for number in range(5):
            response = await api.post("/v1/users/ivan/events", json={"type": "note", "data": number})
            assert response.is_success
    await page.context.set_offline(False)
    expected = [(0, "gap"), (3, "note"), (4, "note"), (5, "note")]
    await expect(page.locator("[data-type=note]")).to_have_count(3)
    assert await events(page) == expected
    await page.reload()
    await expect(page.locator("[data-type=note]")).to_have_count(3)
    assert await events(page) == expected


async def test_a_hostile_name_and_message_stay_text(browser: Browser, server: Server) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    page = await open_window(browser, server.url)
    alerts: list[str] = []
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    await sign_in(page, hostile)
    await expect(page.get_by_test_id("user")).to_have_text(hostile)
    await say(page, hostile)
    await answered(page)
    async with server.api() as api:
        events_url = f"/v1/users/{quote(hostile, safe='')}/events"
        for type_, data in ((hostile, hostile), ("token", None), ("__proto__", 1), ("note", {"text": hostile})):
            body = {"type": type_, "data": data, "thread_id": hostile}
            response = await api.post(events_url, json=body)
            assert response.is_success
    await expect(page.locator("[data-type=note]")).to_have_count(1)
    assert in_order(await events(page))
    await expect(page.locator("main img, main script")).to_have_count(0)
    await expect(page.get_by_test_id("threads")).to_contain_text(hostile)
    assert alerts == []


async def test_an_expired_token_is_renewed_for_the_connection_and_for_messages(
    browser: Browser, server: Server
) -> None:
    page = await open_window(browser, server.url)
    auth = AuthSettings.model_validate({"hmac_secret": HMAC_SECRET})
    expired = issue_token(auth, "judy", seconds=-60, session_id="s1")
    account = {"user": "judy", "token": expired, "session": "s1"}
    store = "account => sessionStorage.setItem('account', JSON.stringify(account))"
    await page.evaluate(store, account)
    await page.reload()
    await has_state(page, "connected")
    await say(page, "6 * 7")
    await answered(page)
    renewed = await page.evaluate("JSON.parse(sessionStorage.getItem('account'))")
    assert (renewed["user"], renewed["session"]) == ("judy", "s1")
    assert renewed["token"] != expired


async def test_a_refused_token_ends_the_connection_and_the_page_says_why(browser: Browser, server: Server) -> None:
    page = await open_window(browser, server.url)
    forged = issue_token(AuthSettings.model_validate({"hmac_secret": "x" * 40}), "mallory", seconds=60)
    store = "token => sessionStorage.setItem('account', JSON.stringify({user: 'mallory', session: 's1', token}))"
    await page.evaluate(store, forged)
    await page.reload()
    await has_state(page, "closed")
    await expect(page.get_by_test_id("alert")).to_contain_text("The gateway closed the connection")
    await page.get_by_test_id("sign-out").click()
    await sign_in(page, "mallory")


async def test_a_change_of_mode_is_shown(browser: Browser, server: Server) -> None:
    page = await open_window(browser, server.url)
    await sign_in(page, "niaj")
    await expect(page.get_by_test_id("mode")).to_be_hidden()
    async with server.api() as api:
        for mode in ("emergency", "unified"):
            response = await api.put("/v1/users/niaj/mode", json={"mode": mode})
            assert response.is_success
            await expect(page.get_by_test_id("mode")).to_have_text(f"Mode: {mode}")
            if mode == "emergency":
                await say(page, "6 * 7")
                await expect(page.get_by_test_id("alert")).to_contain_text("The message was not sent")
                await expect(page.get_by_test_id("text")).to_have_value("6 * 7")
    await page.get_by_test_id("send").click()
    await answered(page)


async def test_a_name_that_breaks_the_rules_is_refused_with_the_rule(browser: Browser, server: Server) -> None:
    page = await open_window(browser, server.url)
    await page.get_by_test_id("name").fill("é" * 200)
    await page.get_by_test_id("sign-in").click()
    await expect(page.get_by_test_id("alert")).to_contain_text("at most 255")
    await expect(page.get_by_test_id("text")).to_be_hidden()


async def test_the_keyboard_is_enough(browser: Browser, server: Server) -> None:
    page = await open_window(browser, server.url)
    await page.keyboard.type("olivia")
    await page.keyboard.press("Enter")
    await has_state(page, "connected")
    await page.keyboard.type("6 * 7")
    await page.keyboard.press("Enter")
    await answered(page)
    await page.get_by_role("button", name="Sign out").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Your name")).to_be_focused()
    assert await page.evaluate("sessionStorage.length") == 0
