"""A real JupyterLab in a real Chromium: everything on loopback, settings of its own, gone at the end."""

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from networks import restless_gpt
from playwright.sync_api import Browser, Page, sync_playwright

from aigc_lessons.cli import lab_environment
from aigc_lessons.doctor import find_chromium
from aigc_lessons.models.gpt import GPT, GPTConfig

FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-quic", "--no-first-run"]  # fmt: skip
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
}
SHOTS = os.environ.get("AIGC_LESSONS_SCREENSHOTS")
IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


@dataclass
class Lab:
    """A running JupyterLab."""

    url: str
    token: str
    root: Path  # of its notebooks

    def ask(self, path: str, method: str = "GET") -> bytes:
        """What its server answers."""
        request = urllib.request.Request(f"{self.url}/{path}?token={self.token}", method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def write(self, name: str, code: str) -> str:
        """A notebook of one cell; its file name."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.root / name)
        return name

    def end_kernels(self) -> None:
        """A kernel outlives its page, with all its memory."""
        for kernel in json.loads(self.ask("api/kernels")):
            self.ask(f"api/kernels/{kernel['id']}", "DELETE")


@dataclass
class Opened:
    """A lesson open in the browser, with the page's errors and the requests that left this machine."""

    page: Page
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


@contextlib.contextmanager
def jupyterlab(root: Path, scratch: Path, **environment: str) -> Iterator[Lab]:
    """JupyterLab on the notebooks in `root`."""
    for plugin, values in SETTINGS.items():
        file = scratch / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(8)
    log = scratch / "lab.log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}",
               f"--LabApp.user_settings_dir={scratch}", f"--LabApp.workspaces_dir={scratch / 'workspaces'}",
               "--LabApp.expose_app_in_browser=True"]  # fmt: skip
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=lab_environment() | environment)
    lab = Lab(f"http://127.0.0.1:{port}", token, root)
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                lab.ask("api/status")
                break
            if server.poll() is not None:
                raise RuntimeError(f"JupyterLab died:\n{log.read_text()[-2000:]}")
            time.sleep(0.25)
        yield lab
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """One headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS, headless=True)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, lab: Lab, notebook: str, seconds: int = 240) -> Iterator[Opened]:
    """A notebook opened, all its cells run, the kernel at rest."""
    with browser.new_page(viewport={"width": 1250, "height": 1000}) as page:
        lesson = Opened(page)
        page.on("pageerror", lambda error: lesson.errors.append(str(error)))
        own = (lab.url, "data:", "blob:", lab.url.replace("http", "ws"))
        page.on("request", lambda r: None if r.url.startswith(own) else lesson.outside.append(r.url))
        page.goto(f"{lab.url}/lab/tree/{notebook}?token={lab.token}&reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        page.wait_for_function(IDLE, timeout=90_000)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(
            "() => { const p = [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')];"
            " return p.length && p.every(e => /\\[\\d+\\]/.test(e.textContent)); }",
            timeout=1000 * seconds,
        )
        page.wait_for_function(IDLE, timeout=30_000)
        yield lesson
    lab.end_kernels()


def loaded(page: Page, source: str) -> Callable:
    """A script's mathematics without JupyterLab: calls f(argument) in the browser, where `m` is the module."""
    module = "data:text/javascript;base64," + base64.b64encode(source.encode()).decode()
    return lambda f, argument: page.evaluate(f"(x) => import({module!r}).then((m) => ({f})(x))", argument)


def small_gpt(block_size: int = 12) -> GPT:
    """Sizes that differ from one another, and weights that hide nothing: for scripts that compute what Python does."""
    return restless_gpt(GPTConfig(vocab_size=11, block_size=block_size, n_layer=2, n_head=3, n_embd=24), seed=3)


def shot(page: Page, name: str) -> None:
    """A screenshot for the eye, in the folder that AIGC_LESSONS_SCREENSHOTS names; without it, none."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS, f"{name}.png"))


# time from the key press to the first changed and painted picture; `sign` reads what must change
LATENCY = """([target, sign]) => new Promise((done, fail) => {
  const read = new Function('return ' + sign), before = read();
  const handle = document.querySelector(target);
  handle.focus();
  let pressed = null;
  window.addEventListener('keydown', () => { pressed = performance.now(); }, { capture: true, once: true });
  const look = () => {
    if (pressed !== null && read() !== before) requestAnimationFrame(() => done(performance.now() - pressed));
    else if (pressed !== null && performance.now() - pressed > 5000) fail(new Error('nothing changed'));
    else setTimeout(look, 1);
  };
  look();
})"""


def latencies(page: Page, target: str, sign: str, presses: int = 20) -> list[float]:
    """Milliseconds from each key press to the changed picture."""
    page.locator(target).first.focus()
    page.keyboard.press("ArrowLeft")  # at the right end, where another test may have left it, the first would change nothing
    page.wait_for_timeout(500)
    measured = []
    for i in range(presses):
        page.evaluate(f"() => {{ window.__latency = ({LATENCY})({json.dumps([target, sign])}); }}")
        page.keyboard.press("ArrowRight" if i % 2 == 0 else "ArrowLeft")
        measured.append(page.evaluate("() => window.__latency"))
        page.wait_for_timeout(50)
    return measured
