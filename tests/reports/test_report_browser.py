"""The report in a real browser: it moves, complains of nothing, asks for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from _devtools import Browser

pytestmark = pytest.mark.browser

STATE = """({
  text: document.getElementById('level-text').textContent,
  spoken: document.getElementById('level').getAttribute('aria-valuetext'),
  value: +document.getElementById('level').value,
  last: +document.getElementById('level').max,
  image: document.querySelector('.tile.after img').style.transform,
  labels: [...document.querySelectorAll('.card .labels')].map(x => x.innerText).join('|'),
  tally: document.getElementById('tally').textContent,
  cell: document.querySelector('.matrix table.now td').textContent,
  caption: document.querySelector('.matrix table.now caption').textContent,
})"""
END, HOME, LEFT, RIGHT, TAB = (("End", 35), ("Home", 36), ("ArrowLeft", 37), ("ArrowRight", 39),
                               ("Tab", 9))  # fmt: skip


def test_slider_moves_by_keyboard_and_nothing_is_wrong(browser: Browser, page_file: Path) -> None:
    browser.open(page_file)
    browser.js("document.getElementById('level').focus()")
    browser.press(*HOME)
    low = browser.js(STATE)
    browser.press(*END)
    high = browser.js(STATE)
    browser.press(*LEFT)
    near = browser.js(STATE)
    assert (low["value"], high["value"], near["value"]) == (0, high["last"], high["last"] - 1)
    for key in ("text", "image", "labels", "tally", "cell", "caption", "spoken"):
        assert low[key] != high[key], key
    assert near["image"] != high["image"]
    for state in (low, high, near):
        assert state["spoken"] == state["text"] == state["caption"]
        assert state["text"].startswith("t = ")
        assert "log-SNR" in state["text"]
        assert "sigma" in state["text"]
    assert "✱" in high["labels"]
    assert "→" in high["labels"]
    assert browser.problems() == []
    assert browser.requests() == [page_file.resolve().as_uri()]


def test_pictures_are_shown_and_cut_to_one_tile(browser: Browser, page_file: Path) -> None:
    browser.open(page_file)
    boxes = browser.js(
        "[...document.querySelectorAll('.tile')].map(x => [x.clientWidth, x.clientHeight,"
        " x.firstChild.naturalWidth, x.firstChild.getBoundingClientRect().width])"
    )
    assert len(boxes) == 16
    for width, height, natural, shown in boxes:
        assert width == height > 40
        assert natural == 28 * 10  # the source and 9 levels
        assert shown == pytest.approx(10 * width, rel=0.01)


def test_play_runs_to_the_noise_and_stops(browser: Browser, page_file: Path) -> None:
    browser.open(page_file)
    browser.js("document.getElementById('level').focus()")
    browser.press(*END)
    browser.press(*LEFT)
    browser.js("document.getElementById('play').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.js("document.getElementById('play').getAttribute('aria-pressed')") == "true"
    ended = browser.js(
        "new Promise(done => { const play = document.getElementById('play');"
        " const look = setInterval(() => { if (play.getAttribute('aria-pressed') === 'false')"
        " { clearInterval(look); done(+document.getElementById('level').value); } }, 20); })"
    )
    assert ended == browser.js("+document.getElementById('level').max")
    assert browser.problems() == []


def test_keyboard_reaches_everything_and_focus_is_visible(
    browser: Browser, page_file: Path
) -> None:
    browser.open(page_file)
    seen = []
    for _ in range(60):
        browser.press(*TAB)
        seen.append(
            browser.js(
                "(e => [e.tagName, e.id, getComputedStyle(e).outlineStyle])"
                "(document.activeElement)"
            )
        )
        if seen[-1][0] == "BODY":
            break
    names = {tag for tag, *_ in seen}
    assert {"A", "SUMMARY", "INPUT", "BUTTON"} <= names
    assert {"level", "play"} <= {name for _, name, _ in seen}
    assert all(outline != "none" for tag, _, outline in seen if tag not in ("BODY", "HTML"))


def test_csv_can_be_saved(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    browser.open(page_file)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    shown = browser.js(
        "(() => { const b = document.querySelector('button.save[data-file=\"kept.csv\"]');"
        " b.closest('details').open = true; b.click();"
        " return b.closest('details').querySelector('pre').textContent; })()"
    )
    browser.wait_for("Page.downloadProgress", lambda p: p["state"] == "completed")
    assert (tmp_path / "kept.csv").read_text(encoding="utf-8") == shown
    assert browser.problems() == []


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_runs_over_the_edge(browser: Browser, page_file: Path, width: int) -> None:
    browser.view(width, 800)
    browser.open(page_file)
    assert browser.js("document.documentElement.scrollWidth") == width
    shown = browser.js(
        "[...document.querySelectorAll('figure svg')].filter(x => x.getBoundingClientRect().width)"
        ".map(x => [x.getBoundingClientRect().width / x.viewBox.baseVal.width,"
        " Math.min(...[...x.querySelectorAll('text')].map(t =>"
        " parseFloat(getComputedStyle(t).fontSize)))])"
    )
    assert len(shown) == 9  # one is the tree of the digits
    for scale, smallest in shown:
        assert scale * smallest >= 7.5  # pixels of the smallest text


def test_dark_and_print_take_their_own_colours(browser: Browser, page_file: Path) -> None:
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('figure svg text')).fill]"
    )
    browser.open(page_file)
    light = browser.js(colours)
    browser.view(1280, 900, scheme="dark")
    dark = browser.js(colours)
    browser.view(1280, 900, scheme="dark", media="print")
    paper = browser.js(colours)
    assert light[0] == paper[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 24, 29)"
    assert light[1:] == paper[1:] != dark[1:]


def test_print_and_pages_without_scripts_show_the_strips(
    browser: Browser, page_file: Path
) -> None:
    seen = (
        "[document.querySelectorAll('.strip img').length,"
        " [...document.querySelectorAll('.strip img')].filter(x => x.offsetWidth > 200).length,"
        " document.getElementById('player').offsetHeight,"
        " [...document.querySelectorAll('.pair')].filter(x => x.offsetHeight).length,"
        " [...document.querySelectorAll('table.still')].filter(x => x.offsetHeight).length]"
    )
    browser.open(page_file)
    assert browser.js(seen)[1] == 0
    browser.view(1000, 900, media="print")
    assert browser.js(seen) == [8, 8, 0, 0, 9]
    browser.view(1280, 900)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page_file, is_scripted=False)
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
        assert browser.js("document.documentElement.className") == ""
        assert browser.js(seen) == [8, 8, 0, 0, 9]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_payloads_open_no_dialog_and_run_nothing(
    browser: Browser, hostile_page: str, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(hostile_page, encoding="utf-8")
    browser.open(path)
    browser.js("document.getElementById('level').focus()")
    for key in (HOME, END, LEFT):
        browser.press(*key)
    browser.js("document.querySelectorAll('details').forEach(x => { x.open = true; })")
    assert "alert(1)" in browser.js("document.body.innerText")
    assert browser.js("document.scripts.length") == 2
    assert browser.problems() == []
    assert browser.requests() == [path.resolve().as_uri()]


def test_the_browser_would_see_a_violation(browser: Browser, page: str, tmp_path: Path) -> None:
    # the planted twin: what the other tests call clean can be dirty
    bad = page.replace(
        "<main>", "<main><script>alert(1)</script><img src='http://127.0.0.1:9/x.png' alt=''>", 1
    )
    path = tmp_path / "bad.html"
    path.write_text(bad, encoding="utf-8")
    browser.open(path)
    found = "\n".join(browser.problems())
    assert "script-src" in found
    assert "img-src" in found
    assert "javascriptDialogOpening" not in found  # the policy held
    free = tmp_path / "free.html"
    free.write_text("<script>alert(1)</script><img src='http://127.0.0.1:9/x.png'>")
    browser.open(free)
    assert "javascriptDialogOpening" in "\n".join(browser.problems())
    assert "http://127.0.0.1:9/x.png" in browser.requests()
