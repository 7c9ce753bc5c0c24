"""The growth of reconcile as one SVG file, on two logarithmic axes: what is linear is a line at 45 degrees."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 60, 150, 20, 50
COLOURS = ("#b4442c", "#2c6fb4", "#3c8c4a", "#8a5fb0")


def growth_svg(series: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """`series`: for each way of reconciling, (jobs, seconds)."""
    points = [point for line in series.values() for point in line]
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low, high = 10.0 ** int(log10(min(y for _, y in points)) - 1), 10.0 ** (int(log10(max(y for _, y in points))) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        along = log10(x / first) / log10(last / first) if last > first else 0.0
        up = log10(y / low) / log10(high / low)
        return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        "<title>Seconds of a whole reconcile over the number of jobs</title>",
    ]
    value = low
    while value <= high * 1.01:
        _, y = place(first, value)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g} s</text>')
        value *= 10
    for jobs in sorted({x for x, _ in points}):
        x, _ = place(jobs, low)
        out.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{jobs:,}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">jobs</text>')
    for (name, line), colour in zip(series.items(), COLOURS, strict=False):
        places = [place(x, y) for x, y in line]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        x, y = places[-1]
        out.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])
