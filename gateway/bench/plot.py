"""A bar chart as SVG: requests per second of each server, by workload, with the range of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gateway.bench.report import summary
from gateway.bench.rounds import Result

#: Sizes in pixels.
WIDTH, HEIGHT, MARGIN, LEGEND = 1080, 420, 64, 40
FONT = 12

#: Okabe and Ito's palette, which colour-blind readers can tell apart, too.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")

#: Number of lines across the chart above zero.
LINES = 5


def plot(results: Sequence[Result]) -> str:
    """The chart as the text of an SVG file."""
    names = list(dict.fromkeys(name for result in results for name in result.turns))
    rates = [
        {name: summary(turns, result.workload.counted).rate for name, turns in result.turns.items()}
        for result in results
    ]
    top = _round_up(max((rate.high for found in rates for rate in found.values()), default=0.0))
    height = HEIGHT - MARGIN - LEGEND
    parts = []

    def y(value: float) -> float:
        return LEGEND + height * (1 - value / top)

    for number in range(LINES + 1):
        value = top * number / LINES
        parts.append(_line(MARGIN, y(value), WIDTH - MARGIN / 2, y(value), "#ddd" if number else "#333"))
        parts.append(_text(MARGIN - 6, y(value) + FONT / 3, f"{value:,.0f}", "end"))
    parts.append(_text(MARGIN - 6, LEGEND - 10, "req/s", "end"))
    group = (WIDTH - 1.5 * MARGIN) / max(1, len(results))
    bar = group * 0.8 / max(1, len(names))
    for number, (result, found) in enumerate(zip(results, rates, strict=True)):
        left = MARGIN + group * number
        parts.append(_text(left + group / 2, HEIGHT - MARGIN + 2 * FONT, result.workload.name, "middle"))
        for name, rate in found.items():
            place = names.index(name)
            x = left + group * 0.1 + bar * place
            middle = x + bar / 2
            title = f"{result.workload.name}, {name}: {rate.median:,.0f} req/s, {rate.low:,.0f}–{rate.high:,.0f}"
            parts.append(
                f'<rect x="{x:.1f}" y="{y(rate.median):.1f}" width="{bar * 0.92:.1f}"'
                f' height="{y(0) - y(rate.median):.1f}" fill="{COLOURS[place % len(COLOURS)]}">'
                f"<title>{escape(title)}</title></rect>"
            )
            parts.append(_line(middle, y(rate.low), middle, y(rate.high), "#333"))
            parts.append(_text(middle, y(rate.high) - 4, f"{rate.median:,.0f}", "middle"))
    for place, name in enumerate(names):
        x = MARGIN + (WIDTH - 1.5 * MARGIN) / len(names) * place
        parts.append(f'<rect x="{x:.1f}" y="6" width="{FONT}" height="{FONT}" fill="{COLOURS[place % len(COLOURS)]}"/>')
        parts.append(_text(x + 1.5 * FONT, 6 + FONT * 0.85, name, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="{FONT}">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _round_up(value: float) -> float:
    """The smallest number not below ``value`` that is 1, 2 or 5 times a power of ten, at least 1."""
    step = 1.0
    while True:
        for first in (1, 2, 5):
            if value <= first * step:
                return first * step
        step *= 10


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
