"""Contact sheets of the site, to be looked at: `python docs/sheets.py FOLDER`.

It builds the site, opens every page in a browser at two widths, light and dark, and writes sheets
of small pictures. It prints what is wider than the screen, and text that hardly stands out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
# The width of the screen in pixels; how much a picture shrinks, and how many there are on a sheet.
SIZES = {1280: (0.3, 4, 2), 390: (0.65, 6, 1)}
TALLEST = 2400  # pixels of a page that are shown
BROWSERS = "chromium", "chromium-browser", "chrome", "google-chrome"
CONTRAST = 3.0  # at least, of text against what is behind it

# What is wider than the page, apart from what scrolls in a box of its own or is off the screen.
WIDE = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width)
    found.push("the page: " + document.documentElement.scrollWidth);
  const scrolls = (x) => x && x.tagName !== "HTML" && x.tagName !== "BODY"
    && (["auto", "scroll"].includes(getComputedStyle(x).overflowX) || scrolls(x.parentElement));
  for (const x of document.querySelectorAll("article *")) {
    const box = x.getBoundingClientRect();
    if (box.width && box.right > width + 1 && !scrolls(x) && !x.closest("svg"))
      found.push(x.tagName + ": " + x.textContent.slice(0, 40).trim());
  }
  return found.slice(0, 3);
}"""
# Text whose contrast is below the limit.
FAINT = """(least) => {
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (x) => {
    for (; x; x = x.parentElement) {
      const colour = parts(getComputedStyle(x).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const x of document.querySelectorAll("article *, .toc-tree a, .sidebar-tree a")) {
    const own = [...x.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !x.getClientRects().length) continue;
    const style = getComputedStyle(x);
    const a = light(parts(x.closest("svg") ? style.fill : style.color));
    const b = light(behind(x)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) found.push(ratio.toFixed(1) + " " + x.textContent.slice(0, 30).trim());
  }
  return [...new Set(found)].slice(0, 3);
}"""


def build(out: Path) -> None:
    """Build the site."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(out)]
    subprocess.run(command, check=True, cwd=DOCS.parent)


def pages_of(site: Path, modules: bool = False) -> list[Path]:
    """The pages of a built site: guides first, then what is generated."""
    found = [file for file in site.rglob("*.html") if modules or "_modules" not in file.parts]
    return sorted(found, key=lambda file: (len(file.relative_to(site).parts), file))


def browser(playwright: Any) -> Any:
    """A browser of this machine, else the one of playwright."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def opened(files: list[Path], width: int, scheme: str = "light", scale: float = 1) -> Iterator[Any]:
    """Every page, in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = browser(playwright)
        page = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            device_scale_factor=scale,
        ).new_page()
        for file in files:
            page.goto(file.as_uri())
            yield file, page
        chromium.close()


def shots(files: list[Path], folder: Path, width: int, scheme: str) -> tuple[list[Path], list[str]]:
    """A small picture of every page, and what is wrong on it."""
    found, wrong = [], []
    for n, (file, page) in enumerate(opened(files, width, scheme, SIZES[width][0])):
        height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
        path = folder / f"{n:04}.png"
        shown = {"x": 0, "y": 0, "width": width, "height": height}
        page.screenshot(path=path, full_page=True, clip=shown)
        found.append(path)
        faults = [*page.evaluate(WIDE), *page.evaluate(FAINT, CONTRAST)]
        wrong += [f"{width} {scheme} {file.stem}: {fault}" for fault in faults]
    return found, wrong


def sheet(files: list[Path], names: list[str], across: int, to: Path) -> None:
    """Many small pictures in one, with their names above them."""
    from PIL import Image, ImageDraw

    pictures = [Image.open(file).convert("RGB") for file in files]
    wide = max(x.width for x in pictures) + 8
    rows = [pictures[n : n + across] for n in range(0, len(pictures), across)]
    heights = [max(x.height for x in row) + 24 for row in rows]
    whole = Image.new("RGB", (wide * across, sum(heights)), "#888")
    draw = ImageDraw.Draw(whole)
    for n, picture in enumerate(pictures):
        row, column = divmod(n, across)
        x, y = column * wide + 4, sum(heights[:row])
        draw.text((x, y + 4), names[n], fill="white")
        whole.paste(picture, (x, y + 20))
    whole.save(to)


def main() -> int:
    """Write the sheets, and say what is wrong."""
    parser = argparse.ArgumentParser(description="Writes contact sheets of the site.")
    parser.add_argument("folder", type=Path, help="where the sheets are written")
    parser.add_argument("--site", type=Path, help="a site that is built already")
    parser.add_argument("--modules", action="store_true", help="show the pages of code too")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    everything: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if options.site is None:
            build(work / "site")
        site = (options.site or work / "site").resolve()
        files = pages_of(site, options.modules)
        for width, (_, across, down) in SIZES.items():
            each = across * down
            for scheme in ("light", "dark"):
                found, wrong = shots(files, work, width, scheme)
                everything += wrong
                for n in range(0, len(found), each):
                    some = slice(n, n + each)
                    names = [str(file.relative_to(site))[:-5] for file in files[some]]
                    to = options.folder / f"{width}_{scheme}_{n // each:02}.png"
                    sheet(found[some], names, across, to)
    print("\n".join([*everything, f"{len(everything)} faults on {len(files)} pages"]))
    return bool(everything)


if __name__ == "__main__":
    sys.exit(main())
