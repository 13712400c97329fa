"""Of bench/compare what needs no process: medians and ratios, tables, the chart, options."""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
from bench.comparison import callgrind, cases, chart, figures, report  # noqa: E402
from bench.comparison.peers import everybody  # noqa: E402
from bench.comparison.peers.peer import marking_script, marks_of, utilization  # noqa: E402
from bench.comparison.processes import wait_for  # noqa: E402

MACHINE = {"cpu": "a <fast> one", "cores": 2, "memory_gib": 8, "kernel": "6", "system": "Debian", "commit": "abc", "build": "Release build", "when": "now", "load_before": 0.1, "load_after": 0.2}


def samples_of(**rates):
    """souk=[100, 200], make=[..]: tasks/s of case A, a value a round; None: not measured in that round."""
    samples = figures.Samples()
    for peer, values in rates.items():
        for number, value in enumerate(values, 1):
            if value is not None:
                samples.add("A", peer, number, 1000, {"tasks_per_s": value})
    return samples


def result_of(samples, quick=False):
    return {"machine": MACHINE, "rounds": 3, "quick": quick, "rows": figures.summary(samples, cases.CASES), "skipped": [{"peer": "slurm", "case": "", "why": "not installed"}], "versions": {"make": "4.3"}}


class Figures(unittest.TestCase):
    def test_a_ratio_is_of_one_round_since_the_machine_changes_between_rounds(self):
        # The machine was five times slower in the second round, and make alone in the third. Medians would say 4.
        row = figures.summary(samples_of(souk=[200, 40, 400], make=[100, 20, 50]), cases.CASES)[1]
        self.assertEqual((row["peer"], row["reference_is_better_by"]["median"], row["reference_is_better_by"]["max"]), ("make", 2, 8))

    def test_servers_are_compared_with_prosody_instead(self):
        samples = figures.Samples()
        for peer, rate in (("prosody", 5000), ("ejabberd", 15000)):
            samples.add("S", peer, 1, 10, {"requests_per_s": rate})
        rows = figures.summary(samples, cases.CASES)
        self.assertNotIn("reference_is_better_by", next(row for row in rows if row["peer"] == "prosody"))
        self.assertAlmostEqual(next(row for row in rows if row["peer"] == "ejabberd")["reference_is_better_by"]["median"], 1 / 3)

    def test_rounds_that_one_of_them_missed_give_no_ratio(self):
        self.assertEqual(samples_of(souk=[10, None, 30], make=[None, 5, 10]).ratios("A", "make", "tasks_per_s", True), [3])

    def test_better_is_more_of_a_rate_and_less_of_a_time(self):
        self.assertEqual(figures.advantage(20, 10, more_is_better=True), 2)
        self.assertEqual(figures.advantage(20, 10, more_is_better=False), 0.5)
        self.assertIsNone(figures.advantage(0, 10, more_is_better=False))

    def test_median_spread_and_quantile(self):
        self.assertEqual(figures.spread([3, 1, 2]), {"median": 2, "min": 1, "max": 3, "n": 3})
        self.assertEqual(figures.quantile(range(1, 101), 0.99), 99)
        self.assertEqual(figures.quantile(range(1, 51), 0.99), 50)
        self.assertEqual(figures.quantile([7], 0.99), 7)
        self.assertEqual(figures.latencies([0.001, 0.002, 0.009], "function_"), {"function_p50_ms": 2.0, "function_p99_ms": 9.0})

    def test_souk_comes_first_whoever_was_measured_first(self):
        self.assertEqual(samples_of(make=[1], **{"souk-ejabberd": [1]}, souk=[1]).peers("A"), ["souk", "souk-ejabberd", "make"])

    def test_targets_are_judged_by_figure_or_by_ratio(self):
        targets = [cases.Target("A", "tasks_per_s", 1.5, True, "make"), cases.Target("A", "tasks_per_s", 300, True), cases.Target("F", "restart_ms", 10, False)]
        samples = samples_of(souk=[200, 200], make=[100, 100])
        self.assertEqual([(figure, met) for _, figure, met in figures.judge(targets, samples, cases.CASES)], [(2, True), (200, False), (None, None)])
        samples.add("F", "souk", 1, 3, {"restart_ms": 7})
        self.assertEqual(figures.judge(targets, samples, cases.CASES)[2][1:], (7, True))

    def test_utilization_is_one_when_no_time_is_lost(self):
        self.assertAlmostEqual(utilization(800, 8, 5.0), 1.0)
        self.assertAlmostEqual(utilization(800, 8, 10.0), 0.5)


class Cases(unittest.TestCase):
    def test_every_target_is_of_a_figure_that_is_measured(self):
        for target in cases.TARGETS:
            self.assertIsNotNone(cases.CASES[target.letter].metric(target.metric), target)
            self.assertIn(target.letter + ":", target.says())

    def test_a_quick_run_is_smaller_but_never_of_nothing(self):
        for letter in cases.CASES:
            for peer in ("souk", "slurm", "workqueue"):
                self.assertLessEqual(1, cases.size_of(letter, peer, True))
                self.assertLessEqual(cases.size_of(letter, peer, True), cases.size_of(letter, peer, False))

    def test_the_report_says_what_each_peer_does(self):
        for peer in everybody("", "", True):
            self.assertLessEqual(set(peer.cases) & set("ABCDE"), set(peer.note), peer.name)

    def test_the_marking_task_stays_the_first_time_and_ends_the_second(self):
        with tempfile.TemporaryDirectory() as folder:
            script = os.path.join(folder, "task")
            marks = marking_script(script, seconds=600)
            self.assertEqual(marks_of(marks), [])
            first = subprocess.Popen([script])
            wait_for(lambda: marks_of(marks), "the first mark")
            self.assertIsNone(first.poll())
            first.kill()
            first.wait()
            self.assertEqual(subprocess.run([script], timeout=10).returncode, 0)
            self.assertEqual(len(marks_of(marks)), 2)


class Report(unittest.TestCase):
    def test_three_digits_count(self):
        self.assertEqual([report.number(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.1234, 0, 0.00012, None)], ["12,346", "123", "12.3", "1.23", "0.123", "0.000", "1.2e-04", "-"])

    def test_a_table_has_median_spread_and_ratio_of_each_peer(self):
        text = report.markdown(result_of(samples_of(souk=[200, 220, 240], make=[100, 100, 100], xargs=[400, 440, 480])), cases.CASES, [])
        lines = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith("| ")}
        self.assertEqual(lines["souk"], ["1,000", "220 (200 to 240)", "-"])
        self.assertEqual(lines["make"], ["1,000", "100", "2.20 (2.00 to 2.40)"])
        self.assertEqual(lines["xargs"][2], "0.500")
        self.assertIn("- slurm: not installed", text)
        self.assertIn("commit abc", text)

    def test_a_column_of_ratios_without_any_is_left_out(self):
        self.assertNotIn("×", report.markdown(result_of(samples_of(make=[100])), cases.CASES, []).split("## A")[1])
        self.assertIn("×", report.markdown(result_of(samples_of(make=[100], souk=[1])), cases.CASES, []).split("## A")[1])

    def test_columns_line_up(self):
        lines = report.aligned(["a", "long name"], [["longer", "1"], ["a|b", "22"]]).splitlines()
        self.assertEqual(len({len(line) for line in lines}), 1)
        self.assertIn("a\\|b", lines[3])

    def test_a_quick_run_judges_nothing_and_says_so(self):
        samples = samples_of(souk=[200], make=[100])
        verdicts = figures.judge(cases.TARGETS, samples, cases.CASES)
        self.assertNotIn("## Targets", report.markdown(result_of(samples, quick=True), cases.CASES, verdicts))
        self.assertIn("says that it works, not how fast", report.markdown(result_of(samples, quick=True), cases.CASES, verdicts))
        self.assertIn("met |", report.markdown(result_of(samples), cases.CASES, verdicts))


class Chart(unittest.TestCase):
    def dots(self, **rates):
        text = chart.svg(result_of(samples_of(**rates)), cases.CASES)
        root = xml.fromstring(text)  # well-formed, with a machine of any name
        space = "{http://www.w3.org/2000/svg}"
        names = [found.text for found in root.iter(space + "text") if found.get("class") == "r" and found.text in rates]
        return dict(zip(names, (float(dot.get("cx")) for dot in root.iter(space + "circle"))))

    def test_ten_times_is_the_same_distance_everywhere(self):
        dots = self.dots(souk=[10], make=[100], xargs=[1000])
        self.assertEqual(list(dots), ["xargs", "make", "souk"])  # best first
        self.assertAlmostEqual(dots["make"] - dots["souk"], dots["xargs"] - dots["make"], places=0)
        self.assertGreater(dots["xargs"], dots["souk"])

    def test_one_peer_alone_is_drawn_too(self):
        self.assertEqual(len(self.dots(souk=[1000])), 1)

    def test_decades_hold_all_values(self):
        self.assertEqual(chart.decades(3, 4000), (0, 4))
        self.assertEqual(chart.decades(10, 10), (1, 2))
        self.assertEqual(chart.decades(0.02, 0.5), (-2, 0))


CALLGRIND = """version: 1
events: Ir
ob=(1) /usr/bin/souk-manager
fl=(1) ???
fn=(1) souk::Scheduler::step(souk::Event const&)
0 100
cob=(2) /usr/lib/libc.so.6
cfn=(2) malloc
calls=3 0
0 5000
+4 11
fn=(3) souk::encode(x)
0 7

ob=(2)
fn=(2)
0 40
* 2
fn=(1)
0 3
totals: 9999
"""


class Callgrind(unittest.TestCase):
    def test_what_a_callee_costs_is_counted_once_and_names_are_said_once(self):
        self.assertEqual(dict(callgrind.self_costs(CALLGRIND.splitlines(True))),
                         {("/usr/bin/souk-manager", "souk::Scheduler::step(souk::Event const&)"): 111, ("/usr/bin/souk-manager", "souk::encode(x)"): 7,
                          ("/usr/lib/libc.so.6", "malloc"): 42, ("/usr/lib/libc.so.6", "souk::Scheduler::step(souk::Event const&)"): 3})

    def test_what_is_there_without_tasks_is_left_out(self):
        few, many = {("a", "login"): 1000, ("a", "step"): 100}, {("a", "login"): 1000, ("a", "step"): 900, ("a", "end"): 8}
        self.assertEqual(dict(callgrind.per_task(few, many, 8)), {("a", "step"): 100, ("a", "end"): 1})

    def test_functions_are_of_a_stage_by_library_and_name(self):
        for library, function, stage in (("/usr/lib/libc.so.6", "_int_malloc", "memory: malloc, free, copying"), ("/usr/lib/libsqlite3.so.0", "0x0000a60", "SQLite"),
                                         ("souk", "souk::Scheduler::step(souk::Event const&)", "scheduling"), ("souk", "souk::wire::Assign::ByteSizeLong() const", "payload: protobuf"),
                                         ("souk", "souk::XmppLink::Impl::send(std::unique_ptr<gloox::Tag>)", "connection: link, router, requests"), ("souk", "souk::Grid::handle()", "conversation and book-keeping"),
                                         ("libfoo.so", "foo", callgrind.REST)):
            self.assertEqual(callgrind.stage_of(library, function), stage, function)


class Options(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        loader = importlib.machinery.SourceFileLoader("compare", os.path.join(ROOT, "bench", "compare"))
        cls.compare = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
        loader.exec_module(cls.compare)

    def refused(self, *arguments):
        words = io.StringIO()
        with contextlib.redirect_stderr(words), self.assertRaises(SystemExit) as ended:
            self.compare.options_of(arguments)
        self.assertEqual(ended.exception.code, 2)
        return words.getvalue()

    def test_cases_and_peers_are_chosen_and_souk_takes_part_always(self):
        options, peers = self.compare.options_of(["--cases", "a, C", "--peers", "make,gearman"])
        self.assertEqual(options.cases, ["A", "C"])
        self.assertEqual([peer.name for peer in peers], ["souk", "make", "gearman"])
        self.assertEqual((options.rounds, self.compare.options_of(["--quick"])[0].rounds), (5, 1))

    def test_what_does_not_exist_is_named_together_with_what_does(self):
        self.assertRegex(self.refused("--cases", "A,Z"), "no case Z; there are A, B")
        self.assertRegex(self.refused("--peers", "condor"), "no peer condor; there are souk, ")
        self.refused("--rounds", "0")

    def test_help_has_examples_that_are_options(self):
        words = io.StringIO()
        with contextlib.redirect_stdout(words), self.assertRaises(SystemExit):
            self.compare.options_of(["--help"])
        examples = re.findall(r"^  .*?bench/compare(.*?)  +\w", words.getvalue().split("examples:")[1], re.MULTILINE)
        self.assertEqual(len(examples), 7)
        for example in examples:
            self.compare.options_of(example.split())

    def test_a_peer_that_is_not_there_says_what_to_install(self):
        from bench.comparison.peers.shell_tools import Make
        class Absent(Make):
            programs, packages = ("no-such-program",), ("some-package",)
        self.assertEqual(Absent().why_not(), "no-such-program not installed; apt-get install --no-install-recommends some-package")


if __name__ == "__main__":
    unittest.main()
