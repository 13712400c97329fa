"""What every peer is: a name, what it needs, and what it measures of which case."""
import importlib.util
import os
import shutil
import subprocess

from ..processes import Failed

SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's modules are for Debian's interpreter
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
TASK = {"A": ["/bin/true"], "B": ["sleep", "0.05"], "D": ["/bin/true"]}
SLEEP_S = 0.05


def utilization(tasks, slots, seconds):
    return tasks * SLEEP_S / slots / seconds


def marking_script(path, seconds=20):
    """Case F: each start of the task adds the time to MARKS; the first start then stays until it is killed, the second ends."""
    marks = path + ".marks"
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\ndate +%s.%N >>{marks}\n[ "$(wc -l <{marks})" -gt 1 ] || exec sleep {seconds}\n')
    os.chmod(path, 0o755)
    return marks


def marks_of(file):
    """The times of the starts so far."""
    try:
        with open(file) as lines:
            return [float(line) for line in lines if line.endswith("\n")]
    except FileNotFoundError:
        return []


class Peer:
    name = ""
    packages = ()  # of Debian
    programs = ()
    modules = ()  # of SYSTEM_PYTHON
    cases = ""
    note = {}  # case -> what a reader must know about the figure
    names = {}  # case -> another name in it

    def why_not(self):
        """Why it cannot run here, or nothing."""
        lacks = [program for program in self.programs if not shutil.which(program, path=PATH)]
        if self.modules and not lacks:
            asked = subprocess.run([SYSTEM_PYTHON, "-c", "import importlib.util, sys; print(*[m for m in sys.argv[1:] if not importlib.util.find_spec(m)])", *self.modules],
                                   capture_output=True, text=True)
            lacks = asked.stdout.split() if asked.returncode == 0 else list(self.modules)
        return f"{', '.join(lacks)} not installed; apt-get install --no-install-recommends {' '.join(self.packages)}" if lacks else ""

    def prepare(self, folder):
        """Once, before the first round; folder lasts until the end."""

    def version(self):
        return ""

    def measure(self, letter, size, slots, stage):
        """The figures of one run of a case, by the names of cases.py."""
        raise Failed("nothing measures that")


def module_of(name):
    return importlib.util.find_spec(name)
