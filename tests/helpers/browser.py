"""Pages in a real Chromium: what is off the screen, hard to read, out of order or without its row."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.helpers.tools import require_tool

PROBE = """<script>
const whole = document.documentElement;
const seen = {errors: [], width: [document.scrollingElement.scrollWidth, whole.clientWidth, innerWidth]};
const say = text => seen.errors.push(text);
const light = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const solid = colour => !/, 0\\)$/.test(colour);
const behind = node => {
  while (node && !solid(getComputedStyle(node).backgroundColor)) node = node.parentElement;
  return getComputedStyle(node || document.body).backgroundColor;
};
seen.paper = light(getComputedStyle(document.body).backgroundColor);
for (const node of document.querySelectorAll("body *")) {
  const box = node.getBoundingClientRect(), style = getComputedStyle(node);
  if (box.width > 40 && box.height > 40 && solid(style.backgroundColor)
      && Math.abs(light(style.backgroundColor) - seen.paper) > 0.3) say("a slab: " + node.outerHTML.slice(0, 80));
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  if (!own || /script|title/i.test(node.tagName)) continue;
  const inside = document.createRange();
  inside.selectNodeContents(node);
  const text = inside.getBoundingClientRect();
  if (text.right > innerWidth + 1 || text.left < -1) say("off the screen: " + node.textContent.slice(0, 60));
  const drawn = node.closest("svg");
  const [a, b] = [light(drawn ? style.fill : style.color), light(behind(drawn ? drawn.parentElement : node))];
  if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) say("hard to read: " + node.outerHTML.slice(0, 80));
}
seen.points = 0;
for (const link of document.querySelectorAll("a[href]")) {
  const row = document.getElementById(link.getAttribute("href").slice(1));
  if (link.closest("figure") && (!row || row.tagName !== "TR")) say("no row: " + link.outerHTML.slice(0, 80));
  if (link.closest("figure") && !(link.title || link.ariaLabel || link.textContent)) say("says nothing");
  seen.points += link.matches(".point, .chart a");
}
for (const point of document.querySelectorAll("a.point")) {
  point.dispatchEvent(new Event("pointerenter"));
  if (point.closest("figure").querySelector(".says").textContent !== point.ariaLabel) say("a silent point");
}
for (const table of document.querySelectorAll("table")) {
  const texts = () => [...table.tBodies[0].rows].map(row => row.textContent), before = [...texts()].sort().join();
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    for (const way of [1, -1]) {
      head.querySelector("button").click();
      const cells = [...table.tBodies[0].rows].map(row => row.cells[column].dataset.value);
      const values = cells.filter(Boolean).map(Number), falls = (value, at) => at && way * (values[at - 1] - value) > 0;
      if (values.some(falls)) say("not sorted by " + head.textContent);
      if (head.ariaSort !== (way > 0 ? "ascending" : "descending")) say("not said: " + head.textContent);
      if ([...texts()].sort().join() !== before) say("rows are lost");
    }
  });
}
seen.loaded = performance.getEntriesByType("resource").length;
seen.heights = [...document.querySelectorAll("figure")].map(each => each.getBoundingClientRect().height);
parent.postMessage(JSON.stringify(seen), "*");
</script></body>"""
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark">
<script>onmessage = event => { document.title = event.data; };</script>
<iframe src="page.html" style="border: 0; width: %dpx; height: 900px"></iframe>"""  # a window has 500 pixels at least


def browse(page: Path, folder: Path, width: int, dark: bool, *options: str) -> subprocess.CompletedProcess[str]:
    """Chromium with a page in a window of this width, of 500 pixels at least."""
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [require_tool("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               f"--user-data-dir={folder / 'profile'}", f"--window-size={width},3000", *scheme]  # fmt: skip
    return subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, check=True)


def probed(page: Path, folder: Path, width: int, dark: bool) -> dict[str, Any]:
    """What a page says of itself in a frame of this width, after every table was sorted by every column.

    `errors`, of which there should be none; `width` of what scrolls, of the room there is, and of the frame; `paper`,
    the background's luminance; `points` that lead to a row; files `loaded`; `heights` of the figures.
    """
    frame = folder / "frame.html"
    frame.write_text(FRAME % width)
    (folder / "page.html").write_text(page.read_text().replace("</body>", PROBE))
    done = browse(frame, folder, 1600, dark, "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert found is not None, done.stdout[:2000]
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen
