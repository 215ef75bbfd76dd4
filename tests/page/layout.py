"""What a person would see wrong with a page: things cut off, on top of each other, pale or covered.

Each function returns the faults in words. `layout.js` finds them, in the browser.
"""

from pathlib import Path

from playwright.sync_api import Page

SOURCE = Path(__file__).with_suffix(".js")


def find_layout_faults(page: Page) -> list[str]:
    """What leaves the window, is cut off, or lies on another control."""
    return find(page, "findLayoutFaults")


def find_unreadable_texts(page: Page) -> list[str]:
    """Texts with a contrast of less than 4.5:1 to what is behind them."""
    return find(page, "findUnreadable")


def find_covered_controls(page: Page) -> list[str]:
    """Controls that something covers when they get the focus."""
    return find(page, "findCovered")


def find(page: Page, name: str) -> list[str]:
    """Run one of the functions of `layout.js`."""
    return list(page.evaluate(f"{SOURCE.read_text().strip()}.{name}()"))
