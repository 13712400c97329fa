"""What is compared: cases, their figures, how large each peer's share of one is, and what we want to reach."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    more_is_better: bool
    title: str


@dataclass(frozen=True)
class Case:
    letter: str
    title: str
    metrics: tuple  # the first is the one of the chart
    reference: str = "souk"  # whom the others are compared with

    def metric(self, name):
        return next((metric for metric in self.metrics if metric.name == name), None)


def rate(title="tasks a second"):
    return Metric("tasks_per_s", "tasks/s", True, title)


CPU = Metric("cpu_us_per_task", "µs", False, "CPU of the scheduler (and its server) a task")

CASES = {case.letter: case for case in (
    Case("A", "processes: /bin/true, 2 slots", (rate(), CPU, Metric("server_cpu_us_per_task", "µs", False, "of it the message server"))),
    Case("B", "processes: sleep 0.05, 8 slots", (Metric("utilization", "", True, "ideal time / time"), CPU)),
    Case("C", "no process: a no-op function or service, 2 slots", (rate(), CPU, Metric("server_cpu_us_per_task", "µs", False, "of it the message server"))),
    Case("D", "latency of one task on an idle system", (
        Metric("p50_ms", "ms", False, "a process, median"), Metric("p99_ms", "ms", False, "a process, 99th percentile"),
        Metric("function_p50_ms", "ms", False, "a function or service, median"), Metric("function_p99_ms", "ms", False, "a function or service, 99th percentile"))),
    Case("E", "enqueue with no worker free", (
        rate("distinct tasks accepted a second"), Metric("bytes_per_task", "B", False, "memory of the scheduler a queued task"),
        Metric("array_ms", "ms", False, "one array, accepted"), Metric("single_ms", "ms", False, "one task, accepted"))),
    Case("F", "kill -9 of a worker, to the start of its task elsewhere", (Metric("restart_ms", "ms", False, "kill to restart"),)),
    Case("S", "stanzas through the server alone", (
        Metric("requests_per_s", "/s", True, "requests and answers, 64 in flight"), Metric("request_cpu_us", "µs", False, "CPU of the server a request"),
        Metric("batched_tasks_per_s", "tasks/s", True, "tasks in stanzas of 64"), Metric("latency_us", "µs", False, "one request at a time")), "prosody"),
)}

# Tasks in a full run: as many as take some seconds. (peer, case) -> number; `*`: every other peer.
SIZES = {
    "A": {"*": 10_000, "dask": 3_000, "celery": 3_000, "workqueue": 1_000, "parallel": 1_000, "slurm": 20, "dask-pip": 3_000, "hyperqueue": 1_000},
    "B": {"*": 800, "slurm": 40},
    "C": {"*": 100_000, "dask": 5_000, "celery": 5_000, "dask-pip": 5_000},
    "D": {"*": 200, "slurm": 20, "parallel": 20},
    "E": {"*": 100_000, "celery": 10_000, "slurm": 200},
    "F": {"*": 3, "workqueue": 1},
    "S": {"*": 20_000},
}
ARRAY = {"souk": 1_000_000, "slurm": 10_000}  # tasks of the array in case E
SHARE_OF_QUICK = {"A": 20, "B": 10, "C": 20, "D": 10, "E": 20, "F": 3, "S": 10}  # a quick run divides by this


def size_of(letter, peer, quick):
    sizes = SIZES[letter]
    number = sizes.get(peer, sizes["*"])
    return max(1, number // SHARE_OF_QUICK[letter]) if quick else number


def slots_of(letter):
    return {"B": 8, "E": 0, "F": 1}.get(letter, 2)


@dataclass(frozen=True)
class Target:
    """at_least/at_most of a figure, or, with `peer`, of the ratio to that peer's."""
    letter: str
    metric: str
    bound: float
    at_least: bool
    peer: str = ""

    def says(self):
        metric = CASES[self.letter].metric(self.metric)
        bound = f"{self.bound:,g}"
        what = f"{bound} × {self.peer}" if self.peer else f"{bound} {metric.unit}".strip()
        return f"{self.letter}: {metric.title} {'at least' if self.at_least else 'at most'} {what}"


TARGETS = (
    Target("A", "tasks_per_s", 1.0, True, "make"),
    Target("A", "tasks_per_s", 0.85, True, "spawn"),
    Target("A", "tasks_per_s", 1.18, False, "souk-sandbox"),  # in sandboxes 15 % are lost at most
    Target("A", "cpu_us_per_task", 100, False),
    Target("B", "utilization", 0.96, True),
    Target("C", "tasks_per_s", 2.5, True, "gearman"),
    Target("C", "cpu_us_per_task", 20, False),
    Target("D", "p50_ms", 2.5, False),
    Target("D", "function_p50_ms", 1.2, False),
    Target("E", "array_ms", 20, False),
    Target("E", "tasks_per_s", 100_000, True),
    Target("E", "bytes_per_task", 64, False),
    Target("F", "restart_ms", 10, False),
)
