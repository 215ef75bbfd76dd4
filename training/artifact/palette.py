"""The colours of the classes of a mask, for its card."""

import colorsys

# Okabe and Ito 2008: told apart with any colour vision. Black is for the background.
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
BACKGROUND_COLOR = "#000000"
BACKGROUND_LABELS = ("background", "__background__")
GOLDEN_RATIO = 0.618034


def find_background(labels: tuple[str, ...]) -> int | None:
    """The index of the label that stands for no class, or None."""
    found = (i for i, label in enumerate(labels) if label.lower() in BACKGROUND_LABELS)
    return next(found, None)


def make_palette(labels: tuple[str, ...]) -> list[str]:
    """A colour `#rrggbb` for each label; after the first seven, evenly spread hues."""
    background, palette = find_background(labels), list[str]()
    for index in range(len(labels)):
        number = len(palette) - (background is not None and background < index)
        palette.append(BACKGROUND_COLOR if index == background else pick_color(number))
    return palette


def pick_color(number: int) -> str:
    """The colour of the class of this number, counted without the background."""
    if number < len(COLORS):
        return COLORS[number]
    red, green, blue = colorsys.hsv_to_rgb(
        number * GOLDEN_RATIO % 1, 0.55 + 0.4 * (number % 2), 0.95 - 0.25 * (number % 3)
    )
    return "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))
