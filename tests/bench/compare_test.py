"""bench/compare as a program: a small run of case A, and Ctrl-C in the middle of one.
   compare_test.py BIN        the folder of Souk's programs
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMPARE = os.path.join(ROOT, "bench", "compare")
BIN = sys.argv.pop(1)
MARK = "COMPARE_TEST_MARK"


def marked(mark):
    """Processes that were started under this mark, whoever their parent is now."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if name.isdigit() and f"{MARK}={mark}".encode() in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue
    return found


def words_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().split("\0")
    except OSError:
        return []


class Compare(unittest.TestCase):
    def setUp(self):
        self.mark = f"{os.getpid()}-{self.id()}"
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.environment = {**os.environ, MARK: self.mark, "TMPDIR": self.folder}

    def assert_nothing_is_left(self):
        self.assertEqual(marked(self.mark), [])
        self.assertEqual(os.listdir(self.folder), [])

    def compare(self, *words, **options):
        return subprocess.Popen([sys.executable, COMPARE, "--bin", BIN, *words], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def test_a_quick_run_measures_souk_and_its_peers_and_leaves_nothing_behind(self):
        run = self.compare("--quick", "--cases", "A", "--peers", "make,xargs", "--json")
        out, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, err)
        result = json.loads(out)
        rates = {row["peer"]: row for row in result["rows"] if row["metric"] == "tasks_per_s"}
        expected = {"souk", "xargs"} | ({"make"} if "make" not in [skipped["peer"] for skipped in result["skipped"]] else set())
        self.assertEqual(set(rates), expected, err)
        for peer, row in rates.items():
            self.assertGreater(row["median"], 0, peer)
            self.assertEqual("reference_is_better_by" in row, peer != "souk")
        self.assertTrue(any(row["metric"] == "cpu_us_per_task" and row["peer"] == "souk" for row in result["rows"]))
        self.assert_nothing_is_left()

    @unittest.skipUnless(shutil.which("erl") and subprocess.run(["dpkg-query", "-W", "ejabberd"], capture_output=True).returncode == 0, "ejabberd is not installed")
    def test_a_grid_runs_on_ejabberd_too(self):
        run = self.compare("--quick", "--cases", "A", "--peers", "souk-ejabberd", "--json")
        out, err = run.communicate(timeout=100)
        self.assertEqual(run.returncode, 0, err)
        rates = {row["peer"]: row["median"] for row in json.loads(out)["rows"] if row["metric"] == "tasks_per_s"}
        self.assertGreater(rates.get("souk-ejabberd", 0), 0, err)
        self.assert_nothing_is_left()

    @unittest.skipUnless(shutil.which("bwrap") and subprocess.run(["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"], capture_output=True).returncode == 0, "bwrap does not work here")
    def test_tasks_in_sandboxes_take_part(self):
        run = self.compare("--quick", "--cases", "A", "--peers", "souk-sandbox", "--json")
        out, err = run.communicate(timeout=100)
        self.assertEqual(run.returncode, 0, err)
        rates = {row["peer"]: row["median"] for row in json.loads(out)["rows"] if row["metric"] == "tasks_per_s"}
        self.assertGreater(rates.get("souk-sandbox", 0), 0, err)
        self.assert_nothing_is_left()

    def test_ctrl_c_ends_everything_that_was_started(self):
        run = self.compare("--quick", "--cases", "B", "--peers", "make", "--rounds", "50")
        end = time.monotonic() + 30
        while not any("--no-progress" in words_of(pid) for pid in marked(self.mark)):  # `souk run`: a grid is at work
            self.assertLess(time.monotonic(), end, "no grid was started")
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        run.send_signal(signal.SIGINT)  # who is impatient leaves no more behind
        _, err = run.communicate(timeout=30)
        self.assertEqual(run.returncode, 130, err)
        self.assert_nothing_is_left()


if __name__ == "__main__":
    unittest.main()
