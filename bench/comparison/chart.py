"""The first figure of each case as SVG: a dot for the median, a line for the spread, on a logarithmic scale, since peers lie far apart. Pure."""
import math
from xml.sax.saxutils import escape

from .report import number

WIDTH, LEFT, RIGHT, ROW, HEAD, FOOT = 760, 130, 110, 20, 46, 30
OURS, OTHERS, GRID = "#1f6fb2", "#888888", "#dddddd"


def decades(low, high):
    """Whole powers of ten around both; at least one decade."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return first, max(last, first + 1)


def scale_of(rows):
    """Where a value lies, and which lines to draw. Logarithmic, but shares (0 to 1) as they are."""
    if all(0 <= row["max"] <= 1.05 for row in rows) and any(row["unit"] == "" for row in rows):
        return lambda value: min(1.0, value), [0, 0.25, 0.5, 0.75, 1]
    first, last = decades(min(row["min"] for row in rows), max(row["max"] for row in rows))
    return lambda value: (math.log10(value) - first) / (last - first), [10.0**power for power in range(first, last + 1)]


def panel(case, rows, top):
    metric = case.metrics[0]
    rows = sorted(rows, key=lambda row: row["median"], reverse=metric.more_is_better)
    place, lines = scale_of(rows)
    x = lambda value: LEFT + (WIDTH - LEFT - RIGHT) * place(value)
    bottom = top + HEAD + ROW * len(rows)
    unit = f", {metric.unit}" if metric.unit else ""
    svg = [f'<text x="12" y="{top + 20}" class="t">{escape(case.letter + ". " + case.title)}</text>',
           f'<text x="{WIDTH - 12}" y="{top + 20}" class="r">{escape(metric.title + unit)}; {"more" if metric.more_is_better else "less"} is better</text>']
    for value in lines:
        svg.append(f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top + HEAD - 10}" y2="{bottom}" stroke="{GRID}"/>'
                   f'<text x="{x(value):.1f}" y="{bottom + 14}" class="m">{number(value) if value < 10 and value % 1 else f"{value:,.0f}"}</text>')
    for i, row in enumerate(rows):
        y = top + HEAD + ROW * i
        color = OURS if row["peer"].startswith(case.reference) else OTHERS
        svg.append(f'<text x="{LEFT - 10}" y="{y + 4}" class="r" fill="{color}">{escape(row["peer"])}</text>'
                   f'<line x1="{x(row["min"]):.1f}" x2="{x(row["max"]):.1f}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"/>'
                   f'<circle cx="{x(row["median"]):.1f}" cy="{y}" r="4.5" fill="{color}"/>'
                   f'<text x="{WIDTH - RIGHT + 14}" y="{y + 4}" fill="{color}">{number(row["median"])}</text>')
    return "\n".join(svg), bottom + FOOT


def svg(result, cases):
    """result: what bench/compare writes as JSON."""
    panels, top = [], 34
    for letter, case in cases.items():
        rows = [row for row in result["rows"] if row["case"] == letter and row["metric"] == case.metrics[0].name and row["min"] > 0]
        if rows:
            text, top = panel(case, rows, top)
            panels.append(text)
    machine = result["machine"]
    title = f"{machine['cpu']}, {machine['cores']} processors, commit {machine['commit']}, {result['rounds']} round{'s' * (result['rounds'] > 1)}{', quick' if result['quick'] else ''}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="12">\n'
            "<style>.t{font-size:14px;font-weight:bold}.r{text-anchor:end}.m{text-anchor:middle}</style>\n"
            f'<rect width="{WIDTH}" height="{top}" fill="white"/>\n<text x="12" y="20">{escape(title)}</text>\n' + "\n".join(panels) + "\n</svg>\n")
