#!/usr/bin/env python3
"""The command line as people and scripts use it: real `souk`, real grid, real terminal.

SOUK names the program; SOUK_PROGRAMS, if set, the folder of souk-manager and souk-worker.
"""
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest

SOUK = os.environ["SOUK"]
WAIT = 60  # seconds until a step that hangs is a failure
folder = None


def environment(**more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "SOUK_DIR"))}
    return {**clean, "SOUK_DIR": folder, "LANG": "C.UTF-8", "TERM": "xterm", **more}


def unmasked():
    # A test runner may have been started with these ignored; a shell would not do that to its user.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def start(*words, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([SOUK, *map(str, words)], stdout=options.pop("stdout", subprocess.PIPE), stderr=options.pop("stderr", subprocess.PIPE),
                            env=environment(**options.pop("env", {})), preexec_fn=unmasked, bufsize=0, **options)


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err.decode(errors="replace")

    @property
    def text(self):
        return self.out.decode()

    def __repr__(self):
        return f"exit {self.code}, stdout {self.out[:2000]!r}, stderr {self.err[:2000]!r}"


def souk(*words, input=None, **options):
    process = start(*words, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL, **options)
    try:
        out, err = process.communicate(input, timeout=WAIT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"souk {' '.join(map(str, words))} did not end: {Done(None, out, err)}")
    return Done(process.returncode, out, err)


def until(true, what, seconds=WAIT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError("never happened: " + what)


def job_of(number):
    return json.loads(souk("job", number, "--json").out)


def newest():
    return json.loads(souk("jobs", "--limit", 1, "--json").out)


def submit(*words, **options):
    done = souk("submit", *words, **options)
    assert done.code == 0, done
    return int(done.out)


class Terminal:
    """A pseudo-terminal that the program's stderr, or all of it, is connected to."""

    def __init__(self, columns=80):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.seen = b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            try:
                some = os.read(self.master, 65536)
            except OSError:
                return
            if not some:
                return
            self.seen += some

    def close(self):
        os.close(self.slave)
        self.reader.join(5)
        os.close(self.master)
        return self.seen.decode(errors="replace")


def setUpModule():
    global folder
    folder = tempfile.mkdtemp(prefix="souk-cli-")
    done = souk("up", "--workers", 1, "--slots", 2)
    assert done.code == 0, done


def tearDownModule():
    souk("down")
    shutil.rmtree(folder, ignore_errors=True)


class Run(unittest.TestCase):
    def test_one_task_speaks_through_us(self):
        done = souk("run", "sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((done.code, done.out, done.err), (7, b"out\n", "err\n"))

    def test_a_signal_a_time_limit_and_a_missing_program_have_their_codes(self):
        done = souk("run", "sh", "-c", "kill -TERM $$")
        self.assertEqual(done.code, 143, done)
        self.assertIn("signal 15 (TERM)", done.err)
        done = souk("run", "--time-limit", "200ms", "sleep", "60")
        self.assertEqual(done.code, 124, done)
        self.assertIn("time limit", done.err)
        done = souk("run", "no-such-program-here")
        self.assertEqual(done.code, 127, done)
        self.assertIn("no-such-program-here", done.err)

    def test_every_byte_arrives_unchanged(self):
        every = bytes(range(256)) * 40
        self.assertEqual(souk("run", "--stdin", "-", "cat", input=every).out, every)
        large = os.urandom(3 << 20)  # more than a stanza, a page and the default bound
        done = souk("run", "--output-max", "8MiB", "--stdin", "-", "tee", "/dev/stderr", input=large)
        self.assertEqual(done.code, 0, done.err[:100])
        self.assertTrue(done.out == large, "stdout differs")

    def test_nothing_in_the_command_is_an_option_of_ours(self):
        self.assertEqual(souk("run", "echo", "--name", "--json", "-0", "jobs", "--", "cat").out, b"--name --json -0 jobs -- cat\n")
        self.assertEqual(souk("run", "--", "echo", "[a,b]", "", "++").out, b"[a,b]  ++\n")
        self.assertEqual(souk("run", "cat", input=b"not ours to give away").out, b"")

    def test_options_reach_the_task(self):
        done = souk("run", "--env", "A=1 2", "--env", "MINE", "sh", "-c", 'echo "$A/$MINE/$SOUK_TASK"', env={"MINE": "own"})
        self.assertEqual(done.out, b"1 2/own/1\n")
        self.assertEqual(souk("run", "--shell", "echo $((6*7)) | tr 2 3").out, b"43\n")

    def test_an_array_prints_in_the_order_of_its_tasks(self):
        done = souk("run", "--array", "1-40", "--shell", "sleep 0.0$(({}%7)); echo {}")
        self.assertEqual(done.text.split(), [str(n) for n in range(1, 41)], done)
        done = souk("run", "--unordered", "--array", "1-40", "--shell", "sleep 0.0$(({}%7)); echo {}")
        self.assertEqual(sorted(map(int, done.text.split())), list(range(1, 41)), done)

    def test_unordered_does_not_wait_for_the_first(self):
        process = start("run", "--unordered", "--array", "1,2", "--shell", "[ {} = 2 ] || sleep 30; echo {}")
        self.assertEqual(process.stdout.readline(), b"2\n")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT)

    def test_output_comes_while_the_job_goes_on(self):
        process = start("run", "--array", "1,2", "--shell", "[ {} = 1 ] || sleep 30; echo {}")
        self.assertEqual(process.stdout.readline(), b"1\n")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT)

    def test_some_failed(self):
        done = souk("run", "--array", "1-4", "--shell", "exit $(({}%2))")
        self.assertEqual(done.code, 1)
        self.assertRegex(done.err, r"2 of 4 tasks succeeded, 2 failed.*souk tasks \d+ --failed")

    def test_json_gives_one_object_a_task(self):
        done = souk("run", "--json", "--array", "3-5", "--shell", r"echo {}; printf '\377' >&2")
        tasks = [json.loads(line) for line in done.text.splitlines()]
        self.assertEqual([(t["task"], t["item"], t["stdout"], t["stderr_base64"]) for t in tasks], [(1, "3", "3\n", "/w=="), (2, "4", "4\n", "/w=="), (3, "5", "5\n", "/w==")])

    def test_truncation_is_told(self):
        done = souk("run", "--output-max", "1KiB", "--shell", "head -c 5000 /dev/zero")
        self.assertEqual(len(done.out), 1024)
        self.assertIn("stdout was cut: 1.0 KiB of 4.9 KiB kept", done.err)

    def test_retries(self):
        with tempfile.TemporaryDirectory() as there:
            done = souk("run", "--retries", "2", "--shell", f"echo x >> {there}/tries; [ $(wc -l < {there}/tries) -ge 3 ]")
            self.assertEqual(done.code, 0, done)


class Map(unittest.TestCase):
    def test_arguments_and_placeholders(self):
        done = souk("map", "echo {} {.} {/} {//} {/.} {#}", ":::", "a/b.txt", "c d/e.tar.gz")
        self.assertEqual(done.text, "a/b.txt a/b b.txt a b 1\nc d/e.tar.gz c d/e.tar e.tar.gz c d e.tar 2\n")
        self.assertEqual(souk("map", "echo", ":::", "x y", "$HOME", "'").text, "x y\n$HOME\n'\n")
        self.assertEqual(souk("map", "echo got", ":::", "x", "$(id)").text, "got x\ngot $(id)\n")

    def test_lines_of_standard_input_and_of_files(self):
        self.assertEqual(souk("map", "echo", "-", input=b"one\ntwo words\nlast").text, "- one\n- two words\n- last\n")
        self.assertEqual(souk("map", "-0", "printf", "<%s>", input=b"a\nb\0c\0").text, "<a\nb><c>")
        with tempfile.NamedTemporaryFile() as list_file:
            list_file.write(b"l1\nl2\n")
            list_file.flush()
            self.assertEqual(souk("map", "echo", "::::", list_file.name).text, "l1\nl2\n")

    def test_nothing_to_do_is_a_success(self):
        before = newest() if souk("jobs", "--json").out else None
        done = souk("map", "echo", input=b"")
        self.assertEqual((done.code, done.out, done.err), (0, b"", ""))
        self.assertEqual(souk("map", "echo", ":::").code, 0)
        self.assertEqual(newest() if before else None, before)


class Wait(unittest.TestCase):
    def test_submit_prints_the_number_and_wait_the_verdict(self):
        good = submit("--name", "quick", "--array", "1-3", "true")
        bad = submit("false")
        done = souk("wait", good)
        self.assertEqual(done.code, 0, done)
        self.assertRegex(done.text, rf"^job {good}: all 3 tasks succeeded")
        done = souk("wait", good, bad)
        self.assertEqual(done.code, 1, done)
        self.assertEqual(souk("wait", 987654).code, 2)
        told = [json.loads(line) for line in souk("wait", good, bad, "--json").text.splitlines()]
        self.assertEqual([job["state"] for job in told], ["succeeded", "failed"])

    def test_lines_without_a_terminal(self):
        job = submit("--array", "1-14", "sleep", "1")
        done = souk("wait", job, "--progress")
        self.assertEqual(done.code, 0)
        self.assertRegex(done.err, rf"souk: job {job}: \d+ of 14 done, \d+ running")
        self.assertNotIn("\r", done.err)


class Terminals(unittest.TestCase):
    def test_a_bar_on_a_terminal_and_clean_bytes_on_stdout(self):
        screen = Terminal(columns=70)
        process = start("run", "--array", "1-10", "--shell", "sleep 0.3; echo {}", stderr=screen.slave)
        out, _ = process.communicate(timeout=WAIT)
        seen = screen.close()
        self.assertEqual(out.decode().split(), [str(n) for n in range(1, 11)])
        self.assertIn("/10", seen)
        self.assertIn("running", seen)
        self.assertIn("100%", seen)
        self.assertTrue(seen.endswith("\n"))
        for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[mK]", "", seen)):
            self.assertLess(len(line), 70)

    def test_no_bar_when_told_so_and_none_for_what_is_over_at_once(self):
        for words in (["run", "--no-progress", "sleep", "0.5"], ["run", "true"]):
            screen = Terminal()
            start(*words, stderr=screen.slave).communicate(timeout=WAIT)
            self.assertEqual(screen.close(), "", words)

    def test_output_and_bar_share_a_terminal(self):
        screen = Terminal()
        process = start("run", "--array", "1-6", "--shell", "sleep 0.3; echo line {}", stdout=screen.slave, stderr=screen.slave)
        process.communicate(timeout=WAIT)
        # What is left after each erased line is what a person sees.
        seen = re.sub(r"[^\n]*\r\x1b\[K", "", screen.close())
        for n in range(1, 7):
            self.assertRegex(seen, rf"(^|[\r\n])line {n}\r?\n")


class Interrupts(unittest.TestCase):
    def running(self, *words):
        before = newest()["job"] if souk("jobs", "--json").out else 0
        process = start(*words)
        until(lambda: (souk("jobs", "--json").out and newest()["job"] > before and newest()["running"] > 0), "the job runs")
        return process, newest()["job"]

    def test_ctrl_c_cancels_what_run_started(self):
        process, job = self.running("run", "--array", "1-50", "sleep", "60")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn(f"canceling job {job}", err.decode())
        self.assertEqual(job_of(job)["state"], "canceled")
        until(lambda: job_of(job)["running"] == 0, "its tasks are stopped")

    def test_the_second_one_leaves_at_once(self):
        process, job = self.running("run", "--grace", "20s", "sh", "-c", 'trap "" TERM; sleep 60')
        process.send_signal(signal.SIGINT)
        line = process.stderr.readline()
        self.assertIn(b"canceling", line)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(WAIT), 130)
        self.assertLess(time.monotonic() - began, 1)
        process.communicate()

    def test_the_second_one_says_what_becomes_of_the_job_while_no_manager_answers(self):
        process, job = self.running("run", "sleep", "60")
        manager = next(program["pid"] for program in json.loads(souk("status", "--json").out)["programs"] if program["name"] == "manager")
        os.kill(manager, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            line = process.stderr.readline()
            self.assertIn(b"canceling", line)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(WAIT), 130)
        finally:
            os.kill(manager, signal.SIGCONT)
        _, err = process.communicate()
        self.assertIn(f"job {job} may go on, since no manager has said that it is canceled; `souk cancel {job}` does it", err.decode())
        souk("cancel", job)

    def test_wait_leaves_and_the_job_goes_on(self):
        job = submit("sleep", "60")
        process = start("wait", job, "--progress")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT)
        self.assertEqual(process.returncode, 130)
        self.assertIn(f"souk wait {job}", err.decode())
        self.assertIn(job_of(job)["state"], ("waiting", "running"))
        self.assertEqual(souk("cancel", job).code, 0)

    def test_a_reader_that_goes_away(self):
        job = submit("--array", "1-3", "seq", "100000")
        souk("wait", job)
        both = subprocess.run(["bash", "-c", f'"{SOUK}" cat {job} | head -1; echo ${{PIPESTATUS[0]}}'], capture_output=True, env=environment(), timeout=WAIT, preexec_fn=unmasked)
        self.assertEqual((both.stdout, both.stderr), (b"1\n141\n", b""))
        both = subprocess.run(["bash", "-c", f'"{SOUK}" run --array 1-500 --shell "seq 100000; sleep 0.2" | head -1'], capture_output=True, env=environment(), timeout=WAIT, preexec_fn=unmasked)
        self.assertEqual((both.stdout, both.stderr), (b"1\n", b""))
        self.assertEqual(newest()["state"], "canceled")

    def test_a_full_disk_is_told(self):
        job = submit("echo", "x")
        souk("wait", job)
        with open("/dev/full", "wb") as full:
            process = start("cat", job, stdout=full)
            _, err = process.communicate(timeout=WAIT)
        self.assertEqual(process.returncode, 2)
        self.assertIn(b"cannot write the output: No space left on device", err)


class Queries(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.job = submit("--name", "three", "--array", "1-3", "--shell", "echo out {}; echo err {} >&2; exit $(({}==2))")
        souk("wait", cls.job)

    def test_jobs_and_job(self):
        done = souk("jobs")
        self.assertRegex(done.text.splitlines()[0], r"^ *JOB +STATE +TASKS")
        self.assertIn("three", done.text)
        self.assertEqual(len(souk("jobs", "--limit", "1", "--json").text.splitlines()), 1)
        job = job_of(self.job)
        self.assertEqual((job["name"], job["state"], job["tasks"], job["succeeded"], job["failed"]), ("three", "failed", 3, 2, 1))
        self.assertIn("3: 2 succeeded, 1 failed", souk("job", self.job).text)

    def test_tasks(self):
        lines = souk("tasks", self.job).text.splitlines()
        self.assertEqual(len(lines), 4)
        failed = souk("tasks", self.job, "--failed").text.splitlines()
        self.assertEqual(len(failed), 2)
        self.assertRegex(failed[1], r"^ *2 +failed +exit 1 .*worker-1 +2$")
        one = json.loads(souk("tasks", f"{self.job}.3", "--json").out)
        self.assertEqual((one["task"], one["exit_code"], one["item"]), (3, 0, "3"))
        self.assertGreater(one["peak_memory_kib"], 0)

    def test_cat(self):
        self.assertEqual(souk("cat", self.job).text, "out 1\nout 2\nout 3\n")
        self.assertEqual(souk("cat", f"{self.job}.2").text, "out 2\n")
        self.assertEqual(souk("cat", f"{self.job}.2-3", "--stderr").text, "err 2\nerr 3\n")
        both = souk("cat", self.job, "--all")
        self.assertEqual((both.text, both.err), ("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n"))

    def test_cat_of_what_has_not_ended(self):
        job = submit("sleep", "60")
        done = souk("cat", job)
        self.assertEqual(done.code, 1)
        self.assertIn("has not ended yet", done.err)
        self.assertRegex(souk("cancel", job).text, rf"^job {job} canceled")
        self.assertRegex(souk("cancel", self.job).text, rf"^job {self.job} had ended already: failed")

    def test_workers_and_status(self):
        worker = json.loads(souk("workers", "--json").out)
        self.assertEqual(worker["slots"], 2)
        self.assertIn("worker-1", souk("workers").text)
        self.assertRegex(souk("status").text, r"Workers: 1 with 2 slots")
        self.assertEqual(json.loads(souk("status", "--json").out)["grid"]["slots"], 2)


def one_line(*words, **options):
    done = souk("--json", *words, **options)
    assert done.out.count(b"\n") == 1, done
    return json.loads(done.out)


def tasks_of(job):
    return [json.loads(line) for line in souk("tasks", job, "--json").text.splitlines()]


def ended(job):
    return until(lambda: (lambda now: now["state"] not in ("waiting", "running") and now)(job_of(job)), f"job {job} has ended")


class Terms(unittest.TestCase):
    """What a job can ask for, on a grid with one worker of two slots."""

    def test_after_waits_for_another_job(self):
        first = submit("--hold", "--shell", "exit 1")
        good, any_end = submit("--after", first, "true"), submit("--after", f"{first}:any", "echo", "after")
        self.assertEqual((job_of(good)["state"], job_of(any_end)["state"]), ("waiting", "waiting"))
        self.assertIn(str(first), souk("why", good).text)
        noted = {line.split()[0]: line for line in souk("jobs").text.splitlines()}
        self.assertIn("held", noted[str(first)])
        self.assertIn(f"waits for job {first}", noted[str(good)])
        souk("release", first)
        self.assertEqual(ended(any_end)["state"], "succeeded")
        dropped = ended(good)
        self.assertEqual(dropped["state"], "canceled")
        self.assertIn(str(first), dropped["note"])

    def test_max_fails_cancels_the_rest(self):
        done = ended(submit("--max-fails", 3, "--array", "1-500", "false"))
        self.assertEqual(done["state"], "failed")
        self.assertGreater(done["canceled"], 0)
        self.assertLess(done["failed"], 500)

    def test_retries_only_after_the_codes_named(self):
        job = submit("--retries", 2, "--retry-delay", "10ms", "--retry-on", "75-99", "--array", "3,75", "--shell", "exit {}")
        ended(job)
        self.assertEqual([task["attempts"] for task in tasks_of(job)], [1, 3])

    def test_a_deadline_that_passes_ends_what_waits(self):
        done = ended(submit("--hold", "--deadline", "300ms", "true"))
        self.assertEqual(done["state"], "failed")
        self.assertIn("deadline", souk("why", done["job"]).text)

    def test_what_no_worker_has_is_warned_about_and_explained(self):
        done = souk("submit", "--memory", "900TiB", "true")
        self.assertEqual(done.code, 0, done)
        self.assertIn("souk: ", done.err)
        job = int(done.out)
        why = one_line("why", f"{job}.1")
        self.assertEqual((why["state"], why["task"]), ("waiting", 1))
        self.assertEqual(sum(reason["workers"] for reason in why["reasons"]), 1, why)
        self.assertIn("memory", why["reasons"][0]["why"])
        self.assertIn("memory", souk("why", job).text)
        self.assertEqual(souk("cancel", job).code, 0)

    def test_a_dry_run_makes_nothing(self):
        before = submit("true")
        good = one_line("submit", "--dry-run", "--array", "1-7", "--require", 'os == "linux"', "true")
        self.assertEqual((good["tasks"], good["matches"][0]["fitting"], good["matches"][0]["best"]), (7, 1, ["worker-1"]))
        bad = souk("run", "--dry-run", "--require", 'os == "plan9"', "true")
        self.assertEqual(bad.code, 1, bad)
        self.assertIn("no worker fits", bad.text)
        self.assertEqual(souk("map", "--dry-run", "echo", ":::", "a").code, 0)
        self.assertEqual(newest()["job"], before)

    def test_a_wide_task_takes_as_many_slots(self):
        with tempfile.TemporaryDirectory() as there:
            job = submit("--cpus", 2, "--array", "1-2", "--shell", f"while [ ! -e {there}/go ]; do sleep 0.02; done")
            until(lambda: job_of(job)["running"] == 1, "one of them runs")
            self.assertEqual(job_of(job)["waiting"], 1)
            open(f"{there}/go", "w").close()
            self.assertEqual(ended(job)["succeeded"], 2)

    def test_json_items_fill_fields(self):
        with tempfile.NamedTemporaryFile("w") as runs:
            json.dump([{"lr": 0.10, "name": "a b"}, {"lr": 1e-3, "name": "it's"}], runs)
            runs.flush()
            done = souk("run", "--each-json", runs.name, "--shell", "echo {lr} {name} $SOUK_PARAM_NAME; echo '{none}'")
        self.assertEqual(done.text, "0.1 a b a b\n{none}\n0.001 it's it's\n{none}\n", done)
        done = souk("map", "--each-json", "-", "echo", "{n}", "{}", input=b'{"n": 1}\n{"n": [2]}\n')
        self.assertEqual(done.text, '1 {"n":1}\n[2] {"n":[2]}\n', done)

    def test_priority_goes_first(self):
        blocker = submit("--cpus", 2, "sleep", "60")
        until(lambda: job_of(blocker)["running"] == 1, "it holds both slots")
        low, high = submit("--priority", -5, "true"), submit("--priority", 5, "true")
        self.assertEqual(job_of(high)["priority"], 5)
        self.assertEqual(one_line("why", high)["tasks_ahead"], 0)
        self.assertGreaterEqual(one_line("why", low)["tasks_ahead"], 1)
        souk("cancel", blocker)
        self.assertLessEqual(ended(high)["started_ms"], ended(low)["started_ms"])


class Control(unittest.TestCase):
    def test_hold_and_release(self):
        job = submit("--hold", "--array", "1-3", "echo", "{}")
        self.assertTrue(job_of(job)["held"])
        self.assertRegex(souk("jobs").text, rf"(?m)^ *{job} +held ")
        self.assertIn("held", souk("why", job).text)
        self.assertEqual(souk("release", job).text, f"job {job} released\n")
        self.assertEqual(ended(job)["succeeded"], 3)
        self.assertRegex(souk("hold", job).text, rf"^job {job} had ended already: succeeded")

    def test_a_hold_lets_go_on_what_runs(self):
        with tempfile.TemporaryDirectory() as there:
            job = submit("--array", "1-3", "--shell", f"while [ ! -e {there}/go ]; do sleep 0.02; done")
            until(lambda: job_of(job)["running"] == 2, "both slots are taken")
            self.assertEqual(souk("hold", job).text, f"job {job} held; 2 running tasks go on\n")
            open(f"{there}/go", "w").close()
            until(lambda: job_of(job)["succeeded"] == 2, "what ran has ended")
            self.assertEqual(job_of(job)["waiting"], 1)
            self.assertEqual(souk("wait", job).code if souk("release", job).code == 0 else None, 0)

    def test_rerun_keeps_what_succeeded(self):
        with tempfile.TemporaryDirectory() as there:
            job = submit("--array", "1-3", "--shell", f"echo ran {{}} >> {there}/log; [ {{}} != 2 ] || [ -e {there}/fixed ]")
            self.assertEqual(ended(job)["failed"], 1)
            open(f"{there}/fixed", "w").close()
            done = souk("rerun", job, "--wait")
            self.assertEqual((done.code, done.text.split(",")[0]), (0, f"job {job}: all 3 tasks succeeded"), done)
            with open(f"{there}/log") as log:
                self.assertEqual(sorted(log.read().split("\n")), ["", "ran 1", "ran 2", "ran 2", "ran 3"])
            again = int(souk("rerun", job, "--all").out)
            self.assertGreater(again, job)
            self.assertEqual(ended(again)["succeeded"], 3)

    def test_why_shows_the_attempts_of_what_failed(self):
        job = submit("--retries", 1, "--shell", "echo first line; echo cannot open >&2; exit 3")
        ended(job)
        why = one_line("why", f"{job}.1")
        self.assertEqual(why["state"], "failed")
        self.assertEqual([attempt["run"] for attempt in why["attempts"]], [1, 2])
        for attempt in why["attempts"]:
            self.assertEqual(attempt["worker"], "worker-1")
            self.assertIn("3", attempt["ending"])
        self.assertIn("cannot open", why["attempts"][1]["last_lines"])
        text = souk("why", f"{job}.1").text
        self.assertRegex(text, r"(?m)^ +\| cannot open$")
        self.assertIn("on worker-1", text)

    def test_what_they_cannot_do_is_said(self):
        for command in ("why", "hold", "release", "rerun"):
            done = souk(command, 987654)
            self.assertEqual(done.code, 2, done)
            self.assertIn("987654", done.err)
        done = souk("why", "1.2-9")
        self.assertEqual((done.code, "more than one task" in done.err), (2, True), done)
        job = submit("true")
        ended(job)
        self.assertEqual(souk("rerun", job).code, 2, "nothing of it failed")


class JobFiles(unittest.TestCase):
    def file(self, text):
        kept = tempfile.NamedTemporaryFile("w", suffix=".toml")
        kept.write(text)
        kept.flush()
        self.addCleanup(kept.close)
        return kept.name

    STUDY = """
name = "study"
[task.report]
needs = ["train"]
run = "echo report"
[task.prepare]
run = "echo prepare"
[task.train]
needs = ["prepare"]
run = "echo {lr} $SOUK_PARAM_LAYERS"
matrix = { lr = [0.1, 0.01], layers = [2, 4] }
matrix-exclude = [{ lr = 0.1, layers = 4 }]
"""

    def test_tasks_run_behind_what_they_need(self):
        done = souk("run", "--file", self.file(self.STUDY))
        self.assertEqual((done.code, done.text), (0, "prepare\n0.1 2\n0.01 2\n0.01 4\nreport\n"), done)
        job = newest()
        self.assertEqual((job["name"], job["tasks"]), ("study", 5))
        self.assertEqual([task["group"] for task in tasks_of(job["job"])], ["prepare", "train", "train", "train", "report"])
        self.assertRegex(souk("tasks", job["job"]).text.splitlines()[0], r"^TASK +GROUP +STATE")

    def test_what_needs_something_that_failed_is_canceled(self):
        job = submit("--file", self.file("[task.a]\nrun='exit 1'\n[task.b]\nneeds=['a']\nrun='true'\n[task.c]\nneeds=['a:any']\nrun='true'\n"))
        self.assertEqual(ended(job)["state"], "failed")
        self.assertEqual([task["state"] for task in tasks_of(job)], ["failed", "canceled", "succeeded"])
        self.assertIn("a", souk("why", f"{job}.2").text)

    def test_why_of_a_job_tells_what_waits_while_some_run(self):
        job = submit("--file", self.file("[task.a]\nrun='sleep 60'\n[task.b]\nneeds=['a']\nrun='true'\n"))
        until(lambda: job_of(job)["running"] == 1, "task a runs")
        why = one_line("why", job)
        self.assertEqual((why["state"], why["running"], why["waiting"]), ("running", 1, 1))
        self.assertEqual(why["summary"], f"task {job}.2 (b) is next: it waits for 1 group of its job to end: a")
        souk("cancel", job)

    def test_what_the_command_line_says_of_the_job_goes_before(self):
        job = submit("--file", self.file(self.STUDY), "--name", "other", "--hold", "--priority", 7)
        now = job_of(job)
        self.assertEqual((now["name"], now["held"], now["priority"]), ("other", True, 7))
        souk("cancel", job)

    def test_from_standard_input_and_dry(self):
        done = souk("submit", "--file", "-", "--dry-run", input=self.STUDY.encode())
        self.assertEqual(done.code, 0, done)
        self.assertEqual([line.split(":")[0] for line in done.text.splitlines() if not line.startswith(" ")], ["prepare", "train", "report"])

    def test_mistakes_have_a_place(self):
        done = souk("submit", "--file", self.file("[task.a]\nrun='x'\n memry='1GiB'\n"))
        self.assertEqual(done.code, 2, done)
        self.assertIn("line 3, column 2: 'memry' is no key of a task; did you mean memory?", done.err)
        self.assertIn("No such file", souk("submit", "--file", "/no/such/job.toml").err)
        self.assertIn("there are a command and --file too", souk("submit", "--file", "x.toml", "echo").err)
        self.assertIn("--memory is said of tasks", souk("submit", "--file", "x.toml", "--memory", "1GiB").err)


class Mistakes(unittest.TestCase):
    def assertRefused(self, done, code, *parts):
        self.assertEqual(done.code, code, done)
        self.assertEqual(done.out, b"")
        for part in parts:
            self.assertIn(part, done.err)
        self.assertTrue(done.err.startswith("souk: "), done)
        self.assertEqual(done.err.count("\n"), 1, done)

    def test_words(self):
        self.assertRefused(souk("stauts"), 2, "did you mean `souk status`")
        self.assertRefused(souk("run", "--nmae", "x", "true"), 2, "did you mean --name")
        self.assertRefused(souk("run"), 2, "there is no command")
        self.assertRefused(souk("run", "echo hello"), 2, "--shell")
        self.assertRefused(souk("wait"), 2, "JOB")
        self.assertRefused(souk("jobs", "--limit", "many"), 2, "--limit")
        self.assertRefused(souk("run", "--array", "5-1", "true"), 2, "ends before it begins")
        self.assertRefused(souk("run", "--array", "1-20000000", "true"), 2, "it has more than 10000000 tasks; submit it as several jobs")
        self.assertRefused(souk("run", "--time-limit", "90", "true"), 2, "no unit")
        self.assertRefused(souk("run", "--array", "1-3", "--each-line", "x", "true"), 2, "--each-line")
        self.assertRefused(souk("run", "--memory", "512", "true"), 2, "write a unit, such as 512MiB")
        self.assertRefused(souk("run", "--deadline", "25:00", "true"), 2, "18:30")
        self.assertRefused(souk("run", "--each-json", "-", "true", input=b'{"a":1}\n{"a":}\n'), 2, "line 2, column 6")
        self.assertTrue(souk("run", "--require", "os == && x", "true").err.endswith("\n  os == && x\n        ^\n"))

    def test_files(self):
        self.assertRefused(souk("run", "--stdin", "/no/such/file", "cat"), 2, "/no/such/file", "No such file")
        self.assertRefused(souk("submit", "--each-line", "/", "cat"), 2, "Is a directory")
        self.assertRefused(souk("submit", "--each-line", "-", "cat", input=b""), 2, "standard input is empty")
        with tempfile.NamedTemporaryFile() as big:
            big.truncate(9 << 20)
            self.assertRefused(souk("run", "--stdin", big.name, "cat"), 2, "over 8.0 MiB")
            big.truncate(65 << 20)
            self.assertRefused(souk("submit", "--each-line", big.name, "cat"), 2, "over 64 MiB")

    def test_jobs_that_are_not_there(self):
        for command in ("wait", "job", "tasks", "cat", "cancel"):
            self.assertRefused(souk(command, 987654), 2, "987654")
            self.assertRefused(souk(command, "x"), 2, "'x'")

    def test_somebody_elses_job(self):
        job = submit("true")
        souk("wait", job)
        made = souk("user", "add", "eve")
        self.assertEqual(made.code, 0, made)
        profile = next(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name == "eve.toml")
        for command in ("wait", "job", "tasks", "cat", "cancel"):
            self.assertRefused(souk("--profile", profile, command, job), 2, f"{job}")
        self.assertNotIn(str(job), [line.split()[0] for line in souk("--profile", profile, "jobs").text.splitlines()])

    def test_no_grid(self):
        with tempfile.TemporaryDirectory() as empty:
            began = time.monotonic()
            self.assertRefused(souk("--dir", empty, "run", "true"), 3, f"no grid in {empty}", "up`")
            self.assertLess(time.monotonic() - began, 2)

    def profile(self, there, **changes):
        with open(os.path.join(folder, "user.toml")) as own:
            text = own.read()
        shutil.copy(os.path.join(folder, "user.password"), there)
        for key, value in changes.items():
            text = re.sub(rf"(?m)^{key} *=.*$", f"{key} = {value}", text)
        path = os.path.join(there, "user.toml")
        with open(path, "w") as copy:
            copy.write(text)
        os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
        return path

    def test_wrong_password_server_and_manager(self):
        with tempfile.TemporaryDirectory() as there:
            path = self.profile(there)
            with open(os.path.join(there, "user.password"), "w") as secret:
                secret.write("wrong\n")
            self.assertRefused(souk("--profile", path, "jobs"), 3, "password")
        with tempfile.TemporaryDirectory() as there, socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # taken, but nobody listens
            began = time.monotonic()
            self.assertRefused(souk("--profile", self.profile(there, port=nobody.getsockname()[1]), "jobs"), 3, "127.0.0.1")
            self.assertLess(time.monotonic() - began, 8)
        with tempfile.TemporaryDirectory() as there:
            self.assertRefused(souk("--profile", self.profile(there, manager='"manager@nobody.souk.localhost/souk"'), "jobs"), 3, "manager@nobody.souk.localhost")
            self.assertRefused(souk("--profile", self.profile(there, host='"no-such-host.invalid"'), "jobs"), 3, "no-such-host.invalid")

    def test_help_has_examples(self):
        for command in ("submit", "run", "map", "wait", "jobs", "job", "tasks", "cat", "cancel", "why", "hold", "release", "rerun", "workers", "completion"):
            done = souk(command, "--help")
            self.assertEqual(done.code, 0, done)
            self.assertIn("Examples:", done.text)
            self.assertIn(f"  souk {command}", done.text)
        self.assertEqual(souk("help", "run").out, souk("run", "--help").out)
        self.assertEqual(souk().code, 2)

    def test_completion(self):
        self.assertIn("submit", souk("--complete", "su").text)
        self.assertIn("--time-limit", souk("--complete", "run", "--ti").text)
        self.assertEqual(souk("--complete", "run", "ec").text, "")
        self.assertIn("rerun\t", souk("--complete", "re").text)
        self.assertIn("--require\t", souk("--complete", "map", "--req").text)
        script = souk("completion", "bash").text + 'COMP_WORDS=(souk ca); COMP_CWORD=1; _souk; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script.replace("${COMP_WORDS[0]}", SOUK)], capture_output=True, env=environment(), timeout=WAIT)
        self.assertEqual(done.stdout, b"cat cancel\n", done)
        self.assertEqual(souk("completion", "tcsh").code, 2)


class Many(unittest.TestCase):
    def test_cancel_all_reaches_jobs_beyond_the_first_page(self):
        numbers = []
        while len(numbers) < 503:  # a page is 500
            started = [start("submit", "--hold", "true") for _ in range(min(16, 503 - len(numbers)))]
            for process in started:
                numbers.append(int(process.communicate(timeout=WAIT)[0]))
        done = souk("cancel", "--all")
        self.assertEqual(done.code, 0, done)
        self.assertEqual(sorted(int(line.split()[1]) for line in done.text.splitlines()), sorted(numbers), done)
        self.assertIn("none of your jobs", souk("cancel", "--all").err)


class Large(unittest.TestCase):
    def test_a_million_lines(self):
        with tempfile.NamedTemporaryFile() as lines:
            lines.write(b"".join(b"%d\n" % n for n in range(1, 1_000_001)))
            lines.flush()
            screen = Terminal()
            process = start("submit", "--each-line", lines.name, "sleep", "{}", stderr=screen.slave)
            out, _ = process.communicate(timeout=WAIT)
            seen = screen.close()
            self.assertEqual(process.returncode, 0, seen)
        job = int(out)
        self.assertEqual(job_of(job)["tasks"], 1_000_000)
        last = json.loads(souk("tasks", f"{job}.1000000", "--json").out)
        self.assertEqual(last["item"], "1000000")
        self.assertEqual(souk("cancel", job).code, 0)

    def test_many_tasks_with_output(self):
        """Pages come ahead of being read, each of its own size: nothing is missing, twice or out of order."""
        line = "printf '%s %0*d\\n' {} $(({} % 700 < 40 ? 9000 : 1)) 0"
        expected = [f"{n} {'0' * (9000 if n % 700 < 40 else 1)}" for n in range(1, 3001)]
        done = souk("run", "--array", "1-3000", "--shell", line)
        self.assertEqual(done.text.splitlines(), expected, done.err)
        job = json.loads(souk("jobs", "--json").out.splitlines()[0])["job"]
        self.assertEqual(souk("cat", job).text.splitlines(), expected)
        self.assertEqual(souk("cat", f"{job}.690-2801").text.splitlines(), expected[689:2801])
        job = int(souk("submit", "--hold", "--array", "1-1000", "true").out)
        self.assertEqual(len(souk("tasks", f"{job}.1-2000", "--json").text.splitlines()), 1000, "a range beyond the end")
        self.assertEqual(souk("cancel", job).code, 0)
        self.assertEqual([json.loads(task)["task"] for task in souk("tasks", job - 1, "--json").text.splitlines()], list(range(1, 3001)))


class Losses(unittest.TestCase):
    """Programs of the grid die under a `run`; it goes on as if nothing had happened."""

    def kill(self, name):
        programs = json.loads(souk("status", "--json").out)["programs"]
        pid = next(program["pid"] for program in programs if program["name"] == name)
        os.kill(pid, signal.SIGKILL)
        until(lambda: (lambda now: now["alive"] and now["pid"] != pid)(next(p for p in json.loads(souk("status", "--json").out)["programs"] if p["name"] == name)), f"{name} is back")

    def survives(self, name):
        process = start("run", "--array", "1-30", "--shell", "sleep 0.2; echo {}")
        self.assertEqual(process.stdout.readline(), b"1\n")
        self.kill(name)
        out, err = process.communicate(timeout=WAIT)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(out.decode().split(), [str(n) for n in range(2, 31)], err)
        return err.decode()

    def test_the_manager(self):
        self.survives("manager")

    def test_the_server(self):
        self.assertIn("connection lost", self.survives("server"))

    def test_a_worker(self):
        self.survives("worker-1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
