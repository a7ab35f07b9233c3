"""A headless Chromium driven over the DevTools protocol through a pair of pipes: no driver, no port, no library.

`Chromium` is one process for all tests of a run; `Browser` speaks to it for the time of one test; a `Page` lives in a
browser context of its own, so that no test sees another one's logins. What a page says on its console, and what fails
in it, is kept: a test can ask that there be nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

CHROMIUM: Final = shutil.which("chromium") or "/usr/bin/chromium"
PATIENCE: Final = 60.0  # seconds; not a measure: only so that nothing hangs
BOUND: Final = 300.0  # seconds for one test, likewise
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-pipe",
)


_KEYS: Final = {
    "Enter": 13,
    "Escape": 27,
    "End": 35,
    "Home": 36,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "/": 191,
}
_TEXTS: Final = {"Enter": "\r", "/": "/"}  # what a key writes


class Chromium:
    """The process. It reads commands from its descriptor 3 and answers on 4, each ended by a NUL."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="veza-chromium-")
        command_read, self.command = os.pipe()
        self.answer, answer_write = os.pipe()
        self.process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$@" 3<&{command_read} 4>&{answer_write}',
                "-",
                CHROMIUM,
                *_FLAGS,
                f"--user-data-dir={self._profile}",
                "about:blank",
            ],
            pass_fds=(command_read, answer_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(command_read)
        os.close(answer_write)
        self.numbers = itertools.count(1)

    def close(self) -> None:
        os.write(self.command, b'{"id": 0, "method": "Browser.close"}\0')
        os.close(self.command)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        os.close(self.answer)
        shutil.rmtree(self._profile, ignore_errors=True)


class Failed(Exception):
    """The browser refused a command, or a script in a page threw."""


class Gone(Failed):
    """The page a script ran in was left for another."""


class Browser:
    """Commands and answers, while its nursery lives."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._out = trio.lowlevel.FdStream(os.dup(chromium.command))
        self._in = trio.lowlevel.FdStream(os.dup(chromium.answer))
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._sending = trio.Lock()

    async def listen(self) -> None:
        rest = b""
        async for data in self._in:
            *whole, rest = (rest + data).split(b"\0")
            for text in whole:
                message = json.loads(text)
                waiting = self._waiting.pop(message.get("id", 0), None)
                if waiting is not None:
                    waiting.send_nowait(message)
                elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
                    page.hear(message.get("method", ""), message.get("params", {}))

    async def command(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._chromium.numbers)
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = send
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        async with self._sending:
            await self._out.send_all(json.dumps(message).encode() + b"\0")
        answer = await receive.receive()
        if "error" in answer:
            text = answer["error"].get("message", "")
            raise (Gone if "navigated" in text or "context" in text else Failed)(f"{method}: {text}")
        result: dict[str, Any] = answer.get("result", {})
        return result

    @asynccontextmanager
    async def page(
        self, url: str, *, storage: dict[str, str] | None = None, beside: Page | None = None
    ) -> AsyncIterator[Page]:
        """A page at this address, loaded: in a browser of its own, or another tab of that of `beside`. `storage` is in
        its localStorage before anything runs."""
        if beside is not None:
            context = beside.context
        else:
            context = (await self.command("Target.createBrowserContext"))["browserContextId"]
        target = await self.command("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"], context)
        self._pages[page.session] = page
        try:
            for domain in ("Page", "Runtime", "Log"):
                await page.command(f"{domain}.enable")
            if storage:
                items = json.dumps(storage)
                script = f"for (const [k, v] of Object.entries({items})) localStorage.setItem(k, v)"
                await page.command("Page.addScriptToEvaluateOnNewDocument", source=script)
            await page.open(url)
            yield page
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                if beside is None:
                    await self.command("Target.disposeBrowserContext", browserContextId=context)
                else:
                    await self.command("Target.closeTarget", targetId=target["targetId"])
            del self._pages[page.session]

    async def aclose(self) -> None:
        await self._in.aclose()
        await self._out.aclose()


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.session = session
        self.context = context
        self.complaints: list[str] = []  # errors on the console, exceptions, what the content policy stopped
        self._browser = browser
        self._loaded = trio.Event()

    def hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(" ".join(str(each.get("value", "")) for each in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.command(method, self.session, **params)

    async def open(self, url: str) -> None:
        self._loaded = trio.Event()
        await self.command("Page.navigate", url=url)
        with trio.fail_after(PATIENCE):
            await self._loaded.wait()

    async def run(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = await self.command(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise Failed(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    async def leave(self, expression: str) -> None:
        """Run what leads to another address; whether it is reached before the answer is here is nobody's business."""
        with contextlib.suppress(Gone):
            await self.run(expression)

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true in the page, or in the one it leads to; its value then."""
        script = (
            "new Promise(resolve => { const look = () => { let found; try { found = (" + expression + ") }"
            " catch { found = false } if (found) resolve(found); else setTimeout(look, 20) }; look() })"
        )
        with trio.move_on_after(PATIENCE):
            while True:
                try:
                    return await self.run(script)
                except Gone:
                    continue  # the page went on to another address meanwhile: there it is asked anew
        shown = await self.run("document.body.innerText")
        raise AssertionError(f"never true: {expression}\n{shown}\n{self.complaints}")

    async def click(self, selector: str) -> None:
        """As a finger would: in the middle of what is shown, once it stands still; again where it moved after all."""
        find = (
            f"(e => {{ if (!e || !e.getClientRects().length) return null; e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); const [x, y] = [b.x + b.width / 2, b.y + b.height / 2];"
            " const still = window.pointedAt?.e === e && window.pointedAt.x === x && window.pointedAt.y === y;"
            " window.pointedAt = {e, x, y}; if (!still || !e.contains(document.elementFromPoint(x, y))) return null;"
            " window.met = false; const look = (event) => { window.met = e.contains(event.target) };"
            " addEventListener('click', look, {once: true, capture: true}); return {x, y} })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        with trio.fail_after(PATIENCE):
            while True:
                place = await self.until(find)
                await self.click_at(place["x"], place["y"])
                try:
                    if await self.run("window.met") is not False:
                        return
                except Gone:
                    return  # it led elsewhere

    async def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            await self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
            )

    async def press(self, key: str) -> None:
        code = _KEYS[key]
        text = {"text": _TEXTS[key]} if key in _TEXTS else {}
        await self.command(
            "Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text
        )
        await self.command(
            "Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code
        )

    async def choose_files(self, selector: str, *paths: Path) -> None:
        """As if these had been picked in the dialog of a file field."""
        root = (await self.command("DOM.getDocument"))["root"]["nodeId"]
        field = await self.command("DOM.querySelector", nodeId=root, selector=selector)
        await self.command("DOM.setFileInputFiles", files=[str(path) for path in paths], **field)

    async def select(self, selector: str, value: str) -> None:
        """Choose what has this value, as the keys or the mouse would."""
        await self.run(
            f"(e => {{ e.value = {json.dumps(value)}; for (const kind of ['input', 'change'])"
            f" e.dispatchEvent(new Event(kind, {{bubbles: true}})) }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    async def type(self, selector: str, text: str) -> None:
        """Once it is shown: what is hidden takes no focus, and the text would be nobody's."""
        focused = "(e => { if (!e?.getClientRects().length) return; e.focus(); return document.activeElement === e })"
        await self.until(f"{focused}(document.querySelector({json.dumps(selector)}))")
        await self.command("Input.insertText", text=text)


@asynccontextmanager
async def open_browser(chromium: Chromium) -> AsyncIterator[Browser]:
    browser = Browser(chromium)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(browser.listen)
        try:
            yield browser
        finally:
            nursery.cancel_scope.cancel()
    await browser.aclose()


def there() -> bool:
    return Path(CHROMIUM).exists()
