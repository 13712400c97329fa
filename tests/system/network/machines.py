"""Machines of a test, each a network, a name, processes and system folders of its own: what is typed there goes to a shell, as somebody would type it.

One switch is the internet; a home router is a machine with one foot in it that translates addresses for the machine behind. Nothing of it outlives the test."""
import os
import shutil
import signal
import subprocess
import tempfile

from site_of import run
from terminal import Terminal

HERE = os.path.dirname(os.path.abspath(__file__))
# /etc is a copy that accounts may be added to. The programs are installed as they are; the other folders are empty, as on a machine of one's own.
SET_UP = r"""set -e
hostname "$1"
ip link set lo up
mount --bind "$2" /usr/local/bin
mkdir -p "$3"
mount -t tmpfs none "$3"
mkdir "$3/etc" "$3/work"
mount -t overlay none -o "lowerdir=/etc,upperdir=$3/etc,workdir=$3/work" /etc
for folder in /home /srv /run /var/lib /var/tmp; do mount -t tmpfs -o mode=755 none $folder; done
chmod 1777 /var/tmp
mount -t tmpfs -o mode=700 none /root
printf '127.0.0.1 localhost %s\n%s\n' "$1" "$4" >/etc/hosts
if [ -n "$5" ]; then
  useradd --create-home "$5"
  mkdir -p "/run/user/$(id -u "$5")"
  chown "$5:" "/run/user/$(id -u "$5")"
fi
echo ready
exec cat
"""
WAY = ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
APT = r"""#!/usr/bin/python3
# `apt install PACKAGE...` for a machine of a test, which has the system's programs: does only what the package of a server does besides, which is to start one.
import os, socket, subprocess, sys
verb, *packages = sys.argv[1:]
assert verb == "install"
for server in {"prosody", "ejabberd"} & set(packages):
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "units", socket.gethostname())
    os.makedirs(folder, exist_ok=True)
    listener = socket.create_server(("", 5222))
    listener.set_inheritable(True)
    process = subprocess.Popen(["sleep", "infinity"], close_fds=False, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(os.path.join(folder, server + ".service.pid"), "w") as file:
        file.write(str(process.pid))
"""
SUDO = r"""#!/bin/sh
# As sudo does it: another user, a clean environment, the same folder.
user=root
if [ "$1" = -u ]; then user=$2; shift 2; fi
exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups env -i PATH="$PATH" HOME="$(getent passwd "$user" | cut -d: -f6)" USER="$user" LOGNAME="$user" "$@"
"""


class Answer:
    def __init__(self, typed, code, out, err=""):
        self.typed, self.code, self.out, self.err = typed, code, out, err

    def __repr__(self):
        return f"$ {self.typed}\n{self.out[-3000:]}{self.err[-3000:]}exit {self.code}"


class Machine:
    """person: who sits at it; without one root does what is typed, as on a server that one administers."""

    def __init__(self, place, name, person=""):
        self.place, self.name, self.person = place, name, person
        self.home = f"/home/{person}" if person else "/home"
        self.holder = subprocess.Popen([*WAY, "sh", "-c", SET_UP, "sh", name, place.programs, place.path("etc", name), place.hosts, person],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = ""
        while not said.endswith("ready\n"):
            line = self.holder.stdout.readline()
            if not line:
                raise AssertionError(f"no machine {name}: {said}")
            said += line
        self.pid = only_child(self.holder.pid)
        self.inside = ["nsenter", f"--target={self.pid}", "--net", "--uts", "--mount", "--pid", "--"]
        self.uid, self.logs, self.started = "", False, []

    def plug(self, address, into, end="eth0"):
        """A cable to another machine, with that address on our end of it. yields: the name of the other end"""
        self.place.cables += 1
        far = f"s{self.place.cables}"
        run("ip", "link", "add", end, "netns", str(self.pid), "type", "veth", "peer", "name", far, "netns", str(into.pid))
        self.root("ip", "addr", "add", address, "dev", end)
        self.root("ip", "link", "set", end, "up")
        into.root("ip", "link", "set", far, "up")
        return far

    def words(self, *words):
        inside, who = list(self.inside), self.person
        if who:
            inside += ["setpriv", "--reuid", who, "--regid", who, "--init-groups"]
        environment = ["env", "-i", f"PATH={self.place.path('bin')}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", f"HOME={self.home}", "LANG=C.UTF-8"]
        if who:
            self.uid = self.uid or self.root("id", "-u", who).strip()
            environment += [f"USER={who}", f"LOGNAME={who}", f"XDG_RUNTIME_DIR=/run/user/{self.uid}"]
        return [*inside, *environment, *map(str, words)]

    def root(self, *words):
        """What the test does to the machine, by no written command."""
        done = subprocess.run([*self.inside, *map(str, words)], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def shell(self, line):
        return self.words("sh", "-c", 'cd "$HOME" && eval "$1"', "sh", line)

    def type(self, line, password=None):
        """Types a line and waits for its end. password: typed on the terminal when it is asked for."""
        if password is not None:
            return Answer(line, *Terminal(self.shell(line)).see_through(password))
        done = subprocess.run(self.shell(line), capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL)
        return Answer(line, done.returncode, done.stdout, done.stderr)

    def start(self, line):
        """Types a line that does not end; what it says is in .log()."""
        self.logs = True
        with open(self.place.path(f"{self.name}.log"), "ab") as file:
            self.started.append(subprocess.Popen(self.shell("exec " + line), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT))
        return self.started[-1]

    @staticmethod
    def interrupt(process):
        """Ctrl-C in what start() began; its exit code."""
        os.kill(only_child(process.pid), signal.SIGINT)
        return process.wait(30)

    def log(self):
        if not self.logs:
            return ""
        with open(self.place.path(f"{self.name}.log"), errors="replace") as file:
            return file.read()

    def put(self, path, source):
        """A file or folder that somebody copied there, by whatever means."""
        target = f"/proc/{self.pid}/root{path}"
        shutil.copytree(source, target) if os.path.isdir(source) else shutil.copyfile(source, target)
        self.root("chown", "-R", f"{self.person or 'root'}:", path)

    def seen(self, path):
        return f"/proc/{self.pid}/root{path}"

    def close(self):
        self.holder.stdin.close()  # the first process of the machine ends, and the kernel ends all others
        for process in (self.holder, *self.started):
            process.wait(20)
        self.holder.stdout.close()


class Machines:
    """All machines of a test. hosts: lines of everybody's /etc/hosts; programs: the folder that is /usr/local/bin there."""

    def __init__(self, hosts, programs):
        self.folder = tempfile.mkdtemp(prefix="souk-machines-")
        os.chmod(self.folder, 0o755)
        self.hosts, self.programs, self.cables, self.all = hosts, programs, 0, []
        os.mkdir(self.path("bin"))
        with open(os.path.join(HERE, "stand_in_systemctl.py")) as file:
            systemctl = file.read()
        for name, text in (("sudo", SUDO), ("apt", APT), ("systemctl", systemctl)):
            with open(self.path("bin", name), "w") as file:
                file.write(text)
            os.chmod(self.path("bin", name), 0o755)
        self.switch = self.machine("switch")
        self.switch.root("ip", "link", "add", "internet", "type", "bridge")
        self.switch.root("ip", "link", "set", "internet", "up")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def machine(self, name, person="", address=""):
        machine = Machine(self, name, person)
        self.all.append(machine)
        if address:
            self.switch.root("ip", "link", "set", machine.plug(address + "/24", self.switch), "master", "internet")
        return machine

    def behind_router(self, name, person, router_address):
        """A machine in somebody's home, at the address that all homes have, and its router, which lets nothing in that was not asked for."""
        router, machine = self.machine(name + "-router", address=router_address), self.machine(name, person)
        router.root("ip", "addr", "add", "10.0.0.1/24", "dev", machine.plug("10.0.0.2/24", router))
        machine.root("ip", "route", "add", "default", "via", "10.0.0.1")
        router.root("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        router.root("iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
        router.root("iptables", "-w", "-A", "FORWARD", "-i", "eth0", "-m", "conntrack", "!", "--ctstate", "ESTABLISHED,RELATED", "-j", "REJECT", "--reject-with", "icmp-admin-prohibited")
        return router, machine

    def service_logs(self):
        text = ""
        for folder, _, names in os.walk(self.path("units")):
            for name in names:
                if name.endswith(".log"):
                    with open(os.path.join(folder, name), errors="replace") as file:
                        text += f"== {os.path.basename(folder)}: {name}\n{file.read()[-4000:]}\n"
        return text

    def close(self):
        for machine in reversed(self.all):
            machine.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def only_child(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        child, = file.read().split()
        return int(child)


def cannot():
    """Why this user cannot make such machines; empty: it can."""
    for tool in ("ip", "iptables", "unshare", "nsenter", "setpriv", "useradd", "openssl"):
        if not shutil.which(tool):
            return f"there is no {tool}"
    tried = subprocess.run([*WAY, "sh", "-c",
                            "mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b && mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/a,workdir=/mnt/b /etc && iptables -w -t nat -A POSTROUTING -j MASQUERADE"],
                           capture_output=True, text=True, timeout=30)
    return "" if tried.returncode == 0 else "no machines: " + (tried.stderr.strip().splitlines() or ["unshare was refused"])[-1]
