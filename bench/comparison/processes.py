"""Processes that are started, looked at and stopped. Whatever way this program ends, what it started ends too."""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None)
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A measurement that could not be made; the words are for the report."""


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans():
    """What our children leave behind becomes our child, so that end_all() finds it."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)


def stat(pid):
    """The fields of /proc/PID/stat from the state on, or nothing if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None


def cpu_of(*pids):
    """User and system seconds of these processes, without their children."""
    fields = [stat(pid) for pid in pids]
    return sum(int(found[11]) + int(found[12]) for found in fields if found) / TICKS


def memory_of(pid):
    """Bytes in memory."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def children_by_parent():
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat(name)
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(name))
    return parents


def descendants(pid):
    parents, found, open_ = children_by_parent(), [], [pid]
    while open_:
        for child in parents.get(open_.pop(), []):
            found.append(child)
            open_.append(child)
    return found


def end_all(of=None):
    """Kills what descends from this process, by id, until there is nothing."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        alive = [pid for pid in descendants(of or os.getpid()) if (stat(pid) or ["Z"])[0] != "Z"]
        if not alive:
            break
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.02)
    while True:  # zombies that became ours
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=20, every=0.01):
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(every)


def port_opens(port, process, what, seconds=20):
    def open_now():
        if process.poll() is not None:
            raise Failed(f"{what} ended at once, with exit code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return True
        except OSError:
            return False
    wait_for(open_now, f"{what} opens its port", seconds)


class Stage:
    """A folder and the processes of one measurement. Leaving it stops them and removes the folder."""

    def __init__(self):
        self.processes = []

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="souk-compare-")
        os.chmod(self.folder, 0o755)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            self.stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def start(self, command, **options):
        """In the background, silent."""
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        options.setdefault("cwd", self.folder)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **options)
        self.processes.append(process)
        return process

    def stop(self, process, how=signal.SIGKILL):
        if process.poll() is None:
            below = descendants(process.pid)
            for pid in [process.pid, *(below if how == signal.SIGKILL else [])]:
                try:
                    os.kill(pid, how)
                except OSError:
                    pass
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def run(self, command, seconds=300, starts_others=False, **options):
        """To its end; yields what it wrote to stdout. Fails with its last words.
        starts_others: it dies with us, however we do; a fork more expensive, so not for what is timed."""
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("cwd", self.folder)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        try:
            done = subprocess.run(command, text=True, timeout=seconds, preexec_fn=die_with_parent if starts_others else None, **options)
        except subprocess.TimeoutExpired:
            raise Failed(f"{os.path.basename(command[0])} took longer than {seconds} s") from None
        if done.returncode != 0:
            words = (done.stderr or done.stdout or "").strip().splitlines()
            raise Failed(f"{os.path.basename(command[0])} ended with {done.returncode}: {words[-1] if words else 'it said nothing'}")
        return done.stdout or ""

    def timed(self, command, **options):
        start = time.monotonic()
        self.run(command, **options)
        return time.monotonic() - start
