"""A real grid in a temporary folder, for tests that tell a story about it. SOUK names the program `souk`."""
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

SOUK = os.environ["SOUK"]
HOSTED = os.environ.get("SOUK_MARKET") == "hosted"  # the server's room service keeps the market; else the manager itself
WAIT = 60  # seconds until a step that hangs is a failure


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err.decode(errors="replace")

    @property
    def text(self):
        return self.out.decode()

    @property
    def json(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self):
        return f"exit {self.code}, stdout {self.out[:3000]!r}, stderr {self.err[:3000]!r}"


def until(true, what, seconds=WAIT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError("never happened: " + what)


def processes_with(mark):
    """Pids whose environment holds the mark; every process that a grid or its tasks started inherits it, unless it cleared its environment."""
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                if mark.encode() in file.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]


class Grid:
    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="souk story ")  # with spaces, as people have them
        done = self.souk("up", *(["--hosted"] if HOSTED else []), *options)
        assert done.code == 0, done

    def environment(self):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "SOUK_DIR"))}
        return {**clean, "SOUK_DIR": self.folder, "LANG": "C.UTF-8", "SOUK_STORY": self.folder}

    def processes(self):
        """All of the grid: programs and tasks have SOUK_STORY; services, which get an environment of their own, a TMPDIR below the folder."""
        return processes_with(self.folder)

    def start(self, *words, stdin=subprocess.DEVNULL):
        return subprocess.Popen([SOUK, *map(str, words)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment())

    def finish(self, process, input=None):
        try:
            out, err = process.communicate(input, timeout=WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{process.args} did not end: {Done(None, out, err)}\n{self.logs()}")
        return Done(process.returncode, out, err)

    def souk(self, *words, input=None):
        return self.finish(self.start(*words, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL), input)

    def submit(self, *words):
        done = self.souk("submit", *words)
        assert done.code == 0, done
        return int(done.out)

    def job(self, number):
        done = self.souk("job", number, "--json")
        assert done.code == 0, done
        return done.json[0]

    def state(self):
        with open(os.path.join(self.folder, "state.json")) as file:
            return json.load(file)

    def pid(self, program):
        for entry in self.state()["programs"]:
            if entry["name"] == program:
                return entry["pid"]
        raise AssertionError(f"no {program} in {self.state()}")

    def kill(self, program, with_signal=signal.SIGKILL):
        # One that is down just now has none, and 0 would be our own process group.
        os.kill(until(lambda: max(0, self.pid(program)), f"{program} runs"), with_signal)

    def port(self):
        with open(os.path.join(self.folder, "grid.json")) as file:
            return json.load(file)["port"]

    def logs(self):
        text = ""
        for path in sorted(glob.glob(os.path.join(glob.escape(self.folder), "log", "*.log"))):
            with open(path, errors="replace") as file:
                text += f"== {path}\n" + file.read()[-3000:]
        return text

    def close(self):
        done = self.souk("down")
        left = self.processes()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert done.code == 0, done
        assert not left, f"left running: {left}"
