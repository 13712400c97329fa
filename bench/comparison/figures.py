"""Samples to medians, spread and ratios. Pure.

A sample is one figure of one peer in one round. Peers are compared within a round, since a machine is not as fast in the next.
"""
import statistics

OURS = "souk"


def quantile(values, share):
    """Nearest rank: at least `share` of the values are not above it."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))  # ceil
    return ordered[int(min(rank, len(ordered))) - 1]


def latencies(seconds, prefix=""):
    """The figures of case D of times in seconds."""
    return {prefix + "p50_ms": statistics.median(seconds) * 1e3, prefix + "p99_ms": quantile(seconds, 0.99) * 1e3}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def advantage(ours, theirs, more_is_better):
    """How many times better ours is: 2 is twice the rate, or half the time. None where one of them is 0."""
    if not ours or not theirs:
        return None
    return ours / theirs if more_is_better else theirs / ours


class Samples:
    def __init__(self):
        self.all = {}  # (letter, peer, metric) -> {round: value}
        self.sizes = {}  # (letter, peer) -> tasks
        self.notes = {}  # (letter, peer) -> text

    def add(self, letter, peer, number, size, found):
        """found: what a peer measured: figures by name, and perhaps a `note`."""
        self.sizes[letter, peer] = size
        for name, value in found.items():
            if name == "note":
                self.notes[letter, peer] = value
            elif value is not None:
                self.all.setdefault((letter, peer, name), {})[number] = float(value)

    def values(self, letter, peer, metric):
        return list(self.all.get((letter, peer, metric), {}).values())

    def peers(self, letter, reference=OURS):
        """Of a case, the reference first, then what else is ours, then in the order they were first measured."""
        seen = dict.fromkeys(peer for case, peer in self.sizes if case == letter)
        return sorted(seen, key=lambda peer: (peer != reference, not peer.startswith(OURS)))

    def ratios(self, letter, peer, metric, more_is_better, reference=OURS):
        """Ours to theirs, of every round that has both."""
        mine, theirs = (self.all.get((letter, who, metric), {}) for who in (reference, peer))
        pairs = [advantage(mine[n], theirs[n], more_is_better) for n in sorted(mine) if n in theirs]
        return [ratio for ratio in pairs if ratio is not None]


def summary(samples, cases):
    """Rows for table, chart and JSON: one for each figure of each peer."""
    rows = []
    for letter, case in cases.items():
        for peer in samples.peers(letter, case.reference):
            for metric in case.metrics:
                values = samples.values(letter, peer, metric.name)
                if not values:
                    continue
                row = {"case": letter, "peer": peer, "metric": metric.name, "unit": metric.unit, "tasks": samples.sizes[letter, peer], **spread(values), "values": values}
                ratios = samples.ratios(letter, peer, metric.name, metric.more_is_better, case.reference) if peer != case.reference else []
                if ratios:
                    row["reference_is_better_by"] = spread(ratios)
                if (letter, peer) in samples.notes:
                    row["note"] = samples.notes[letter, peer]
                rows.append(row)
    return rows


def judge(targets, samples, cases):
    """(target, figure or None, met or None) of each."""
    verdicts = []
    for target in targets:
        metric = cases[target.letter].metric(target.metric)
        if target.peer:
            found = samples.ratios(target.letter, target.peer, target.metric, metric.more_is_better)
        else:
            found = samples.values(target.letter, OURS, target.metric)
        figure = statistics.median(found) if found else None
        met = None if figure is None else figure >= target.bound if target.at_least else figure <= target.bound
        verdicts.append((target, figure, met))
    return verdicts
