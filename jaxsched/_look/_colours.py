"""The colours of Okabe and Ito, which can be told apart with any colour vision."""

BLUE, SKY, VERMILION, GREEN, PURPLE = "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7"
ORANGE, BLACK, GREY = "#E69F00", "#000000", "#777777"

SERIES = BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY  # for several curves, in this order
# Beyond seven curves the colours repeat, with other dashes: lengths of strokes and gaps in pixels.
DASHES = (), (6, 3), (2, 2), (8, 3, 2, 3)
EVENTS = {
    "restarts": GREEN,
    "cuts": VERMILION,
    "raises": PURPLE,
    "spikes": ORANGE,
    "skips": GREY,
    "restores": SKY,
    "snapshots": BLUE,
    "triggers": GREEN,
    "mixed": ORANGE,
}


def line(n: int) -> tuple[str, tuple[int, ...]]:
    """Return the colour and the dashes of the curve number `n`; 28 can be told apart."""
    return SERIES[n % len(SERIES)], DASHES[n // len(SERIES) % len(DASHES)]
