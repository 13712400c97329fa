#!/usr/bin/env python3
"""A grid for a campus and for volunteers by the written commands only: those of "A campus grid on one page" in docs/OPERATIONS.md, and those that they print, as they stand there.

Each machine is one of its own (machines.py): the server, with the manager beside it since its port for that is open on that machine only; the desk of who runs the grid; a machine of the campus; two
volunteers' machines, each at home behind a router that translates addresses; the desk of who computes. TLS by an own authority. SERVER is prosody (default) or ejabberd."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import issue  # noqa: E402
from machines import Machines, cannot  # noqa: E402
from site_of import PROGRAM, main, until  # noqa: E402

KIND = os.environ.get("SERVER", "prosody")
DOMAIN, ADDRESS = "grid.example.edu", "203.0.113.1"
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "docs", "OPERATIONS.md")


def blocks(text):
    """What it tells to type, each block a list of lines; comments behind two spaces are left out."""
    return [[re.sub(r"\s+# .*", "", line) for line in block.splitlines()] for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)]


def section(title):
    with open(PAGE) as file:
        return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", file.read(), re.M | re.S).group(1)


def page():
    """The blocks of each numbered step of the page; of what stands before them, 0."""
    before, *steps = re.split(r"^\*\*(\d+)\. ", section("A campus grid on one page"), flags=re.M)
    return {0: blocks(before)} | {int(number): blocks(text) for number, text in zip(steps[::2], steps[1::2])}


def packages():
    """What each kind of machine installs, and how the server of the package is ended: in the order of the page."""
    server, end, worker, desk = (line.replace("prosody", KIND) for line in page()[0][0])
    return server, end, worker, desk


def libraries_of(program):
    """The packages of the libraries that a program names, but for those that every Debian has and those of the sanitizers."""
    names = re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout)
    paths = dict(re.findall(r"(\S+) => (\S+)", subprocess.run(["ldd", program], capture_output=True, text=True).stdout))
    found = set()
    for name in names:
        if name in paths:
            said = "".join(subprocess.run(["dpkg", "-S", prefix + paths[name]], capture_output=True, text=True).stdout for prefix in ("", "/usr"))
            found.add(re.match(r"([^:,]*)", said).group(1))
    return found - {"libc6", "libgcc-s1", "libstdc++6", "libasan8", "libubsan1", "libtsan2"}


def sources(room):
    text = ""
    for folder, _, names in os.walk(os.path.join(os.path.dirname(PAGE), "..", room)):
        for name in names:
            with open(os.path.join(folder, name)) as file:
                text += file.read()
    return text


def waiting(machine, then="echo $one"):
    """Does that in the folders of the tasks that wait there; they are seen through their processes, whatever the sandbox is."""
    return machine.root("sh", "-c", f"for one in /proc/[0-9]*/cwd; do test -e $one/waits && {then}; done 2>/dev/null; true")


class Packages(unittest.TestCase):
    def test_the_page_names_what_the_programs_need(self):
        if not all(map(shutil.which, ("dpkg", "readelf", "ldd"))):
            self.skipTest("this is no Debian with binutils")
        server, _, worker, desk = packages()
        with open(os.path.join(os.path.dirname(PAGE), "VOLUNTEERS.md")) as file:
            self.assertEqual(blocks(file.read())[0], [worker], "volunteers are told the same")
        for line, programs, more in ((server, ("souk", "manager"), {KIND, "sqlite3"}), (worker, ("souk", "worker"), {"bubblewrap"}), (desk, ("souk",), set())):
            self.assertTrue(line.startswith("sudo apt install "), line)
            self.assertEqual(set(line.split()[3:]), set().union(more, *(libraries_of(PROGRAM[program]) for program in programs)))


class Campus(unittest.TestCase):
    def setUp(self):
        self.steps, self.began = page(), time.monotonic()
        self.all = Machines(f"{ADDRESS} {DOMAIN}", os.path.dirname(os.path.realpath(PROGRAM["souk"])))
        self.addCleanup(self.all.close)
        self.server = self.all.machine("server", address=ADDRESS)
        self.desk = self.all.machine("desk", "boss", "203.0.113.10")
        self.lab = self.all.machine("lab", address="203.0.113.11")
        self.people = self.all.machine("people", "ada", "203.0.113.12")
        self.joined = []
        self.vera_router, self.vera = self.all.behind_router("vera", "vera", "203.0.113.21")
        self.otto_router, self.otto = self.all.behind_router("otto", "otto", "203.0.113.22")

    def good(self, machine, line, **more):
        done = machine.type(line, **more)
        self.assertEqual(done.code, 0, (done, self.logs()))
        return done

    def logs(self):
        return self.all.service_logs() + "".join(f"== {machine.name}\n{machine.log()[-3000:]}\n" for machine in self.all.all if machine.logs)

    def json(self, machine, line):
        return [json.loads(line) for line in self.good(machine, line).out.splitlines()]

    def workers(self):
        return {worker["worker"]: worker for worker in self.json(self.desk, "souk workers --json")}

    def pasted(self, answer, program):
        """The one command that an invitation tells to paste."""
        found = re.findall(rf"^  ({program} .*)$", answer.out, re.M)
        self.assertEqual(len(found), 1, answer)
        return found[0]

    # ---- The page, step by step
    def the_server(self):
        issue.authority(self.all.folder), issue.certificate(self.all.folder, DOMAIN)
        for name, source in (("fullchain.pem", "server.crt"), ("privkey.pem", "server.key"), ("ca.pem", "ca.pem")):
            self.server.put("/home/" + name, self.all.path(source))
        install, end, _, _ = packages()
        self.good(self.server, install)
        self.good(self.server, end)
        *before, init = self.steps[1][0]
        self.good(self.server, before[0])
        self.good(self.server, "install -d -o souk /home/own && cp *.pem /home/own")
        trial = self.good(self.server, re.sub(r"/etc/souk-tls/(\w+\.pem)", r"/home/own/\1", init).replace("/srv/grid", "/srv/trial"))
        self.assertIn("warning: the server's unit takes certificate and key from /home/own whenever it starts, and that folder is not root's", trial.out)
        self.good(self.server, "rm -r /srv/trial /home/own")
        for line in before[1:]:
            self.good(self.server, line)
        for name in ("fullchain.pem", "privkey.pem", "ca.pem"):
            os.remove(self.server.seen("/home/" + name))  # what lay there is not needed again, by the units neither
        self.assertEqual(self.server.type("stat -c %U%a /etc/souk-tls /etc/souk-tls/privkey.pem").out.split(), ["root700", "root600"])
        written = self.good(self.server, init if KIND == "prosody" else init.replace("server init", "server init --server ejabberd"))
        self.assertNotIn("warning:", written.out)
        told = re.findall(r"^  \d\. (.*)$", written.out, re.M)
        self.assertEqual(told, self.steps[1][1], "what it tells is what the page shows")
        start, check, invite = told
        self.good(self.server, start)
        end = time.monotonic() + 40
        while (done := self.server.type(check)).code != 0 and time.monotonic() < end:
            time.sleep(0.2)
        self.assertEqual(done.code, 0, (done, self.logs()))
        self.assertIn("souk-worker join 'xmpp:" + DOMAIN, self.good(self.server, invite).out)
        self.assertIn("`sudo cat /srv/grid/admin/admin.password`", section("A campus grid on one page"))
        return self.good(self.server, "sudo cat /srv/grid/admin/admin.password").out.strip()

    def the_desk(self, password):
        self.desk.put("/home/boss/ca.pem", self.all.path("ca.pem"))
        login, check, *invitations = self.steps[2][0]
        done = self.good(self.desk, login, password=password)
        self.assertNotIn(password, done.out, "it is not shown")
        findings = {line["about"]: line for line in self.json(self.desk, check + " --json")}
        self.assertEqual({line["level"] for line in findings.values()}, {"ok"}, findings)
        self.assertEqual(set(findings), {"connection", "encryption", "tls-chain", "tls-name", "tls-days", "mechanisms", "login", "round-trip", "stanza-size", "rooms", "uploads", "manager", "clock"})
        self.assertEqual(len(invitations), 3)
        return [self.good(self.desk, line) for line in invitations]

    def a_machine_of_the_campus(self):
        self.good(self.lab, packages()[2])
        self.lab.put("/home/worker", self.server.seen("/srv/grid/worker"))
        self.lab.put("/home/souk-worker.service", self.server.seen("/srv/grid/souk-worker.service"))
        with open(self.server.seen("/srv/grid/souk-worker.service")) as file:
            unit = file.read()
        for line in self.steps[3][0]:
            self.assertIn("#   " + line + "\n", unit, "the unit tells how it is installed")
            self.good(self.lab, line)

    def the_units_say_what_systemd_understands(self):
        if shutil.which("systemd-analyze"):
            done = self.good(self.server, "systemd-analyze verify --man=no /srv/grid/souk-server.service /srv/grid/souk-manager.service /srv/grid/souk-worker.service")
            self.assertEqual(done.out + done.err, "")
        else:
            print("  left out: there is no systemd-analyze")

    def the_volunteers(self, invitations):
        for machine, invitation in zip((self.vera, self.otto), invitations):
            machine.put(f"{machine.home}/ca.pem", self.all.path("ca.pem"))
            self.joined.append(machine.start(self.pasted(invitation, "souk-worker join")))
        until(lambda: {"lab", "vera", "otto"} <= set(self.workers()), "all three are in the market" + self.logs(), 60)
        for worker in self.workers().values():
            self.assertIn(worker["sandbox"], ("bwrap", "cgroup"), worker)
        self.assertEqual(len({worker["jid"].split("/")[0] for worker in self.workers().values()}), 3, "each has an account of its own")

    def nobody_reaches_them(self):
        """The routers do what they are there for: else the rest would show nothing."""
        listener = self.vera.start("python3 -c 'import socket; s = socket.create_server((\"\", 7777)); s.accept(); s.accept()'")
        knock = "python3 -c 'import socket; socket.create_connection((\"10.0.0.2\", 7777), 5)'"
        until(lambda: self.vera_router.type(knock).code == 0, "her router reaches her")
        self.server.root("ip", "route", "add", "10.0.0.0/24", "via", "203.0.113.21")
        self.assertNotEqual(self.server.type(knock).code, 0, "the server does not")
        self.server.root("ip", "route", "del", "10.0.0.0/24")
        listener.kill()
        peers = {line.split()[-1].rsplit(":", 1)[0].strip("[]").removeprefix("::ffff:") for line in self.server.root("ss", "-tnH", "state", "established", "sport = :5222").splitlines()}
        self.assertEqual(peers - {ADDRESS}, {"203.0.113.11", "203.0.113.21", "203.0.113.22"}, "the server knows the routers only")

    def somebody_computes(self, invitation):
        self.people.put("/home/ada/ca.pem", self.all.path("ca.pem"))
        self.good(self.people, self.pasted(invitation, "souk join"))
        run = self.steps[5][0][0]
        self.assertIn("--quorum 2/2", run)
        done = self.good(self.people, run)
        self.assertEqual(done.out.split(), [str(i * i) for i in range(1, 21)], done)
        tasks = self.json(self.people, "souk tasks 1 --json")
        self.assertEqual({(task["state"], task["attempts"]) for task in tasks}, {("succeeded", 2)}, "each was run twice")
        self.assertEqual(sum(worker["succeeded"] for worker in self.workers().values()), 40)
        self.assertGreaterEqual(sum(worker["trust_agreed"] > 0 for worker in self.workers().values()), 2)

    def submitted(self, line):
        return int(self.good(self.people, line).out)

    def starts_waiting(self, machine):
        """A job of one task, which runs on that machine until it may end."""
        job = self.submitted(f"""souk submit --require 'name == "{machine.name}"' --shell 'touch waits; until test -e go; do sleep 0.05; done; echo done'""")
        until(lambda: waiting(machine), f"it runs on {machine.name}" + self.logs())
        return job

    def ended_once(self, job, machine):
        """It may end: it has run all the while, and there only."""
        waiting(machine, "touch $one/go")
        self.good(self.people, f"souk wait {job}")
        task, = self.json(self.people, f"souk tasks {job} --json")
        self.assertEqual((task["attempts"], task["worker"]), (1, machine.name), (task, self.logs()))

    def job(self, number):
        return self.json(self.people, f"souk job {number} --json")[0]

    def a_router_gets_another_address(self):
        """As at home every night: what was connected is not any more, and nobody is told."""
        job = self.starts_waiting(self.vera)
        self.vera_router.root("ip", "addr", "del", "203.0.113.21/24", "dev", "eth0")
        self.vera_router.root("ip", "addr", "add", "203.0.113.121/24", "dev", "eth0")
        self.ended_once(job, self.vera)
        self.assertIn("203.0.113.121", self.server.root("ss", "-tnH", "state", "established", "sport = :5222"))

    def somebody_is_shut_out(self):
        job = self.starts_waiting(self.otto)
        worker = self.joined[1]
        (ban, bans, unban), = self.steps[6]
        account = self.workers()["otto"]["jid"].split("/")[0]
        self.assertEqual(self.good(self.desk, ban).out, account + "\n")
        self.assertEqual(worker.wait(20), 3, self.logs())
        self.assertFalse(waiting(self.otto), "his worker ended, and its task with it")
        self.assertEqual(set(self.workers()), {"lab", "vera"})
        self.assertEqual(self.good(self.desk, bans).out, account + "\n")
        self.assertEqual(self.job(job)["running"], 0)
        self.good(self.people, f"souk cancel {job}")
        self.assertEqual(self.good(self.people, self.steps[5][0][0]).out.split(), [str(i * i) for i in range(1, 21)], "the others go on")
        again = self.otto.type(f"souk-worker --profile ~/.config/souk/worker-{DOMAIN}/worker.toml")
        self.assertEqual(again.code, 3, again)
        self.good(self.desk, re.sub(r"worker-\w+@\S+", account, unban))
        self.assertEqual(self.good(self.desk, bans).out, "")
        return account

    def the_log_tells_who_did_what(self, banned):
        line, = self.steps[7][0]
        told = self.json(self.server, line + " --json")
        did = [(one["did"], one["by"].split("/")[0].split("@")[0]) for one in told]
        invited = [one["id"] for one in told if one["did"] == "invite"]
        self.assertEqual(len(invited), 4)
        self.assertEqual([who for what, who in did if what == "invite"], ["admin"] * 4)
        joined = [(one["by"].split("@")[0], one["role"]) for one in told if one["did"] == "join"]
        self.assertEqual(sorted(joined), sorted([(invited[1], "worker"), (invited[2], "worker"), (invited[3], "user")]), "who came by which invitation")
        self.assertEqual({who for what, who in did if what in ("submit", "cancel")}, {"ada"})
        self.assertEqual([(one["by"].split("@")[0], one["whom"]) for one in told if one["did"] == "ban"], [("admin", banned)])
        self.assertRegex(self.good(self.server, line).out, r"(?m)^\S+Z submit by=ada@grid\.example\.edu/\S+ job=1 tasks=20 ")

    # ---- What comes later
    def an_upgrade(self):
        server, worker = ([line for line in block if not line.endswith(" /usr/local/bin")] for block in blocks(section("Upgrade")))  # the programs are there
        jobs = [self.starts_waiting(machine) for machine in (self.lab, self.vera)]
        for line in server:
            self.good(self.server, line)
        for job, machine in zip(jobs, (self.lab, self.vera)):
            self.ended_once(job, machine)
        for line in worker:
            self.good(self.lab, line)
        until(lambda: {"lab", "vera"} <= set(self.workers()), "the worker is back")
        for words in re.search(r"`(this worker is of version) 1.0.0(, the manager of ')2.0.0('; run the same major version)`", section("Upgrade")).groups():
            self.assertIn(words, sources("worker"))

    def a_copy_put_back(self):
        copy, store, same, another, either = blocks(section("Backup and restore"))
        for line in copy:
            self.good(self.server, line)
        self.assertEqual(self.good(self.server, "stat -c %U%a /root/grid.tar.gz").out, "root600\n", "it has all secrets")
        until(lambda: self.people.type("souk status").code == 0 and {"lab", "vera"} <= set(self.workers()), "all are back")
        for line in store:
            self.good(self.server, line)
            self.good(self.server, "sudo -u souk test -s /srv/grid/manager/grid.copy")
        last = self.submitted("""souk submit --require 'name == "lab"' -- true""")  # a machine of the grid's own, whose word is enough
        self.good(self.people, f"souk wait {last}")
        for line in same + either[:1]:
            self.good(self.server, line)
        self.good(self.server, "sudo systemctl start souk-manager")  # what one should not do
        until(lambda: f"was given job {last}, and this store has none above {last - 1}" in self.people.type("souk status").out, "it knows that it is out of date", 40)
        self.good(self.server, "sudo systemctl stop souk-manager")
        self.go_on_with_the_copy(either[1])
        return another, either

    def go_on_with_the_copy(self, restored):
        process = self.server.start(restored)
        until(lambda: "market open" in self.server.log() and self.server.log().count("worker joined") >= 2, "the market is open and workers are there" + self.logs())
        self.assertEqual(self.server.interrupt(process), 0, self.server.log())
        self.good(self.server, "sudo systemctl start souk-manager")
        until(lambda: {"lab", "vera"} <= set(self.workers()), "all are back")
        self.assertIn("put back from a copy", self.good(self.desk, "souk status").out)
        self.assertEqual(self.good(self.people, self.steps[5][0][0]).out.split(), [str(i * i) for i in range(1, 21)], "it goes on")

    def the_copy_on_another_machine(self, another, either):
        """The first one burnt down: another has its address now, and of it nothing but the copy."""
        lost = self.server
        self.good(lost, "sudo systemctl stop souk-manager souk-server")
        lost.root("ip", "link", "set", "eth0", "down")
        self.server = self.all.machine("second", address=ADDRESS)
        for machine in self.all.all:
            machine.root("ip", "neigh", "flush", "all")
        self.server.put("/root/grid.tar.gz", lost.seen("/root/grid.tar.gz"))
        for line in [*packages()[:2], *another, either[0]]:
            self.good(self.server, line)
        self.go_on_with_the_copy(either[1])

    def what_one_watches(self):
        for line in blocks(section("Monitoring"))[0]:
            done = self.good(self.desk if line.startswith("souk ") else self.server, line)
            for one in done.out.splitlines():
                json.loads(one)
            self.assertTrue(done.out, done)
        text = sources("manager")
        said = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| ([^|]*) \|", section("Monitoring").split("| line of the manager | means |")[1], re.M)))
        self.assertGreater(len(said), 10)
        for words in said:
            self.assertIn(words, text)

    def step(self, name, *arguments):
        answer = getattr(self, name)(*arguments)
        print(f"  {time.monotonic() - self.began:5.1f} s  {name.replace('_', ' ')}", flush=True)
        return answer

    def test_from_init_to_a_quorum_and_a_ban(self):
        step = self.step
        password = step("the_server")
        *workers, user = step("the_desk", password)
        step("a_machine_of_the_campus")
        step("the_units_say_what_systemd_understands")
        step("the_volunteers", workers)
        step("nobody_reaches_them")
        step("somebody_computes", user)
        step("a_router_gets_another_address")
        banned = step("somebody_is_shut_out")
        step("the_log_tells_who_did_what", banned)
        if KIND == "prosody":  # the other server changes nothing of it, and takes long to start
            step("what_one_watches")
            step("an_upgrade")
            step("the_copy_on_another_machine", *step("a_copy_put_back"))


if __name__ == "__main__":
    main(cannot(), KIND)
