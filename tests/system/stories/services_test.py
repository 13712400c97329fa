"""Stories of service tasks on a real grid: what services do right and wrong, and what becomes of the calls."""
import json
import os
import random
import shlex
import signal
import sys
import unittest

from grid import Grid, processes_with, until

HERE = os.path.dirname(os.path.abspath(__file__))
SERVICE = os.path.join(HERE, "../../../service")
KERNEL = os.environ.get("KERNEL", "")  # the example's program

# Does what its request says: die, hang, fail, garble, sleep, or tell about itself.
MOODY = """
import os, sys, time
sys.path.insert(0, %r)
import souk_service
mode = sys.argv[1] if len(sys.argv) > 1 else "binary"
def answer(request):
    word, _, rest = request.text.partition(" ")
    if word == "die": os._exit(3)
    if word == "crash": os.kill(os.getpid(), 11)
    if word == "hang": time.sleep(3600)
    if word == "sleep": time.sleep(float(rest))
    if word == "fail": raise ValueError("it cannot do " + rest)
    if word == "garble": os.write(garbled, b"\\xff" * 64)
    if word == "say": print("a stray word"); return "said\\n"
    if word == "pid": return "%%d\\n" %% os.getpid()
    if word == "child":
        if os.fork() == 0: time.sleep(3600)
    if word == "bytes": return b"\\x00\\xff" * int(rest)
    if word == "length": return "%%d %%d\\n" %% (len(request.body), len(request.item))
    if word == "who": return "%%d.%%d run %%d\\n" %% (request.job, request.task, request.run)
    return request.body
garbled = os.dup(1)
souk_service.serve(answer, framing=mode)
""" % SERVICE


class Services(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import tempfile
        cls.scripts = tempfile.TemporaryDirectory()
        moody = os.path.join(cls.scripts.name, "moody.py")
        with open(moody, "w") as file:
            file.write(MOODY)
        program = f"{shlex.quote(sys.executable)} {shlex.quote(moody)}"
        cls.grid = Grid("--slots", "2", "--service", f"moody={program}", "--service", f"lines=json:{program} json",
                        "--service", "broken=exit 7", "--service", "rude=json:sed -u 's/.*body.*/nonsense/'", "--service", f"kernel={shlex.quote(KERNEL)}")

    @classmethod
    def tearDownClass(cls):
        cls.grid.close()
        cls.scripts.cleanup()

    def run_ok(self, *words, input=None):
        done = self.grid.souk("run", *words, input=input)
        self.assertEqual(done.code, 0, done)
        return done

    def moody_pids(self):
        def of_this_grid(pid):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    return self.scripts.name.encode() in file.read()
            except OSError:
                return False
        return [pid for pid in processes_with("SOUK_SERVICE=moody") if of_this_grid(pid)]

    def test_a_service_answers_and_stays(self):
        pids = self.run_ok("--service", "moody", "--array", "1-200", "--", "pid", "{}").text.split()
        self.assertEqual(len(pids), 200)
        self.assertLessEqual(len(set(pids)), 2, "one process a slot")
        again = self.run_ok("--service", "moody", "pid").text.strip()
        self.assertIn(again, pids)
        services = set(self.moody_pids())
        self.assertTrue(services)
        self.assertLessEqual(services, set(self.grid.processes()), "or one that is left behind would not be seen")

    def test_words_items_and_input_are_what_it_is_asked(self):
        self.assertEqual(self.run_ok("--service", "moody", "a", "b c").text, "a b c")
        self.assertEqual(self.grid.souk("map", "--service", "moody", ":::", "x", "y z").text, "xy z")
        self.assertEqual(self.run_ok("--service", "moody", "--array", "1-3", "{}/{#};").text, "1/1;2/2;3/3;")
        self.assertEqual(self.run_ok("--service", "moody", "--each-json", "-", "{a}+{b} ", input=b'{"a":1,"b":2}\n{"a":3,"b":4}\n').text, "1+2 3+4 ")
        self.assertEqual(self.run_ok("--service", "moody", "--stdin", "-", "ignored", input=b"length of this").text, "14 7\n", "the words come beside the input")
        self.assertEqual(self.run_ok("--service", "moody", "who").text.split(" ", 1)[1], "run 1\n")

    def test_huge_empty_and_binary(self):
        asked = random.Random(1).randbytes(8 << 20)
        self.assertTrue(self.run_ok("--service", "moody", "--output-max", "16MiB", "--stdin", "-", input=asked).out == asked, "all of it comes back")  # assertEqual would print it
        self.assertTrue(self.run_ok("--service", "moody", "--output-max", "16MiB", "bytes 4000000").out == b"\x00\xff" * 4000000)
        for service in ("moody", "lines"):
            self.assertEqual(self.run_ok("--service", service, "bytes 3").out, b"\x00\xff" * 3)
            self.assertEqual(self.grid.souk("map", "--service", service, ":::", "", "").out, b"")
        self.assertEqual(self.run_ok("--service", "lines", "grüße \"x\" \\").text, "grüße \"x\" \\")

    def test_a_failed_call_is_a_failed_task_and_no_more(self):
        done = self.grid.souk("run", "--service", "moody", "fail this")
        self.assertEqual((done.code, done.out), (1, b""))
        self.assertEqual(done.err, "ValueError: it cannot do this\n")
        self.assertEqual(self.run_ok("--service", "moody", "say").text, "said\n")
        until(lambda: "a stray word" in self.grid.logs(), "what it prints is in the log")

    def test_one_that_dies_costs_the_call_it_was_at(self):
        for word in ("die", "crash"):
            done = self.grid.souk("map", "--service", "moody", "--crash-limit", "2", ":::", "one", word, "two", "three")
            self.assertEqual(done.text, "onetwothree", done)
            self.assertEqual(done.code, 1, done)
        job = self.grid.submit("--service", "moody", "--crash-limit", "1", "die")
        self.grid.souk("wait", job)
        why = self.grid.souk("why", job)
        self.assertIn("service moody or its worker was gone before it answered", why.text)

    def test_what_is_no_answer_fails_the_call(self):
        done = self.grid.souk("run", "--service", "moody", "garble")
        self.assertEqual(done.code, 1, done)
        self.assertIn("it answered what is no answer", done.err)
        done = self.grid.souk("run", "--service", "rude", "hello")
        self.assertEqual(done.code, 1, done)
        self.assertIn("it is no JSON: 'nonsense'", done.err)

    def test_one_that_does_not_start_says_so(self):
        done = self.grid.souk("run", "--service", "broken", "x")
        self.assertEqual(done.code, 127, done)
        self.assertIn("service broken does not start: it ended with exit code 7", done.err)

    def test_a_call_over_its_time_is_stopped(self):
        done = self.grid.souk("run", "--service", "moody", "--time-limit", "300ms", "hang")
        self.assertEqual(done.code, 124, done)
        self.assertEqual(self.run_ok("--service", "moody", "still here").text, "still here")

    def test_a_canceled_call_stops_its_process_and_no_other(self):
        job = self.grid.submit("--service", "moody", "--grace", "100ms", "hang")
        until(lambda: self.grid.job(job)["running"] == 1, "it runs")
        self.assertEqual(self.grid.souk("cancel", job).code, 0)
        until(lambda: self.grid.job(job)["state"] == "canceled", "it is canceled")
        until(lambda: self.run_ok("--service", "moody", "--array", "1-20", "x{} ").text == "".join(f"x{n} " for n in range(1, 21)), "both slots answer")

    def test_short_calls_do_not_wait_behind_a_long_one(self):
        self.run_ok("--service", "moody", "--array", "1-500", "-").text
        long = self.grid.submit("--service", "moody", "sleep 30")
        until(lambda: self.grid.job(long)["running"] == 1, "it runs")
        self.assertEqual(len(self.run_ok("--service", "moody", "--array", "1-500", "y").out), 500)
        self.assertEqual(self.grid.job(long)["running"], 1)
        self.grid.souk("cancel", long)
        until(lambda: self.grid.job(long)["state"] == "canceled", "it is canceled")

    def test_an_unknown_service_is_told_at_once_and_by_why(self):
        done = self.grid.souk("submit", "--service", "wrod-count", "x")
        self.assertEqual(done.code, 0, done)
        self.assertIn("no service wrod-count there; start a worker with --service wrod-count=COMMAND", done.err)
        why = self.grid.souk("why", int(done.out))
        self.assertIn("no service wrod-count there", why.text)
        self.assertIn("start a worker with --service wrod-count=COMMAND", why.text)
        self.assertEqual(self.grid.souk("submit", "--service", "Word Count", "x").code, 2)
        self.assertEqual(self.grid.souk("submit", "--service", "moody", "--shell", "x").code, 2)
        self.grid.souk("cancel", int(done.out))
        workers = json.loads(self.grid.souk("workers", "--json").text)
        self.assertEqual(workers["services"], ["broken", "kernel", "lines", "moody", "rude"])

    def test_job_files_call_services(self):
        file = os.path.join(self.scripts.name, "job.toml")
        with open(file, "w") as out:
            out.write('[defaults]\nservice = "moody"\nenv = { A = "1" }\n[task.ask]\nitems = ["a", "b"]\ncommand = ["it is {}"]\n[task.shell]\nneeds = ["ask"]\nrun = "echo done $A"\n')
        self.assertEqual(self.run_ok("--file", file).text, "it is ait is bdone 1\n")

    def test_a_killed_worker_leaves_no_service(self):
        self.run_ok("--service", "moody", "child")
        self.assertTrue(self.moody_pids())
        job = self.grid.submit("--service", "moody", "--array", "1-2", "--", "sleep", "2")
        until(lambda: self.grid.job(job)["running"] == 2, "both run")
        before = self.moody_pids()
        self.grid.kill("worker-1", signal.SIGKILL)
        until(lambda: not set(before) & set(self.moody_pids()), "they are gone", 10)
        done = self.grid.souk("wait", job)
        self.assertEqual(done.code, 0, done)

    @unittest.skipUnless(KERNEL, "not built")
    def test_the_kernel_of_the_examples(self):
        parts = self.run_ok("--service", "kernel", "--array", "1-1000", "{} 1000 100").text.split()
        self.assertAlmostEqual(sum(map(float, parts)), 3.141592653589793, 9)
        self.assertIn("write PART PARTS STEPS", self.grid.souk("run", "--service", "kernel", "pi").err)


if __name__ == "__main__":
    unittest.main()
