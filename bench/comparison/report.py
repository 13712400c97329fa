"""Rows to a table for people: Markdown, which reads well in a terminal too. Pure."""


def number(value):
    """Three digits that count; thousands apart."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.001 or size == 0 else f"{value:.1e}"


def with_spread(of):
    text = number(of["median"])
    return text if of["n"] == 1 or of["min"] == of["max"] else f"{text} ({number(of['min'])} to {number(of['max'])})"


def aligned(header, lines):
    """A Markdown table whose columns line up."""
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in [header, *lines]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    row = lambda line: "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
    return "\n".join([row(cells[0]), "| " + " | ".join("-" * width for width in widths) + " |", *map(row, cells[1:])])


def head(machine):
    return (f"{machine['cpu']}, {machine['cores']} processors, {machine['memory_gib']:.0f} GiB, kernel {machine['kernel']}, {machine['system']}. "
            f"Souk at commit {machine['commit']}, {machine['build']}. {machine['when']}. Load average {machine['load_before']:.1f} before, {machine['load_after']:.1f} after.")


def table_of(rows, case):
    header = ["", "tasks"]
    mine = [row for row in rows if row["case"] == case.letter]
    metrics = [metric for metric in case.metrics if any(row["metric"] == metric.name for row in mine)]
    for metric in metrics:
        header += [f"{metric.title}{', ' + metric.unit if metric.unit and metric.unit not in ('tasks/s', '/s') else ''}", "×"]
    lines = []
    for peer in dict.fromkeys(row["peer"] for row in mine):
        line = [peer, ""]
        for metric in metrics:
            row = next((row for row in mine if row["peer"] == peer and row["metric"] == metric.name), None)
            line[1] = f"{row['tasks']:,}" if row else line[1]
            ratio = row.get("reference_is_better_by") if row else None
            line += [with_spread(row) if row else "-", with_spread(ratio) if ratio else "-"]
        lines.append(line)
    keep = [i for i in range(len(header)) if header[i] != "×" or any(line[i] != "-" for line in lines)]  # where there is somebody to compare with
    return aligned([header[i] for i in keep], [[line[i] for i in keep] for line in lines])


def markdown(result, cases, verdicts):
    """result: what bench/compare writes as JSON."""
    parts = ["# Side by side", "", head(result["machine"]), ""]
    parts.append(f"{result['rounds']} round{'s' * (result['rounds'] > 1)}{', quick' if result['quick'] else ''}, interleaved: in each round every peer has its turn at a case before the next case begins. Medians, in brackets "
                 "the spread. ×: how many times better Souk is (in S: Prosody), the median of the ratios of rounds; below 1 it is behind.")
    if result["quick"]:
        parts.append("\nA quick run says that it works, not how fast things are.")
    for letter, case in cases.items():
        rows = [row for row in result["rows"] if row["case"] == letter]
        if not rows:
            continue
        parts += ["", f"## {letter}. {case.title}", "", table_of(result["rows"], case)]
        notes = {row["peer"]: row["note"] for row in rows if row.get("note")}
        parts += [""] * bool(notes) + [f"{peer}: {note}.  " for peer, note in notes.items()]
    known = [verdict for verdict in verdicts if verdict[1] is not None]
    if known and not result["quick"]:
        parts += ["", "## Targets", "", aligned(["target", "figure", ""], [[target.says(), number(figure), "met" if met else "not met"] for target, figure, met in known])]
    if result["skipped"]:
        parts += ["", "## Left out", ""] + [f"- {skipped['peer']}{' ' + skipped['case'] if skipped['case'] else ''}: {skipped['why']}" for skipped in result["skipped"]]
    parts += ["", "## Versions", ""] + [f"- {name}: {version}" for name, version in result["versions"].items()]
    return "\n".join(parts) + "\n"
