#!/usr/bin/env python3
"""A server of one's own by the written commands only: `souk server init`, the units' command lines, `souk server check`, `souk login`, `souk invite`, `souk-worker join`.

The server, a user, workers and a proxy are in network namespaces of their own; the name of the domain is in their hosts files, and an own authority issued the certificate.
SERVER is prosody (default) or ejabberd."""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import issue  # noqa: E402
from site_of import PROGRAM, can_cut, main, run, until  # noqa: E402

DOMAIN = "grid.souk.test"
KIND = os.environ.get("SERVER", "prosody")
HERE = os.path.dirname(os.path.abspath(__file__))


class Answer:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self):
        return f"exit {self.code}\n{self.out[-3000:]}\n{self.err[-3000:]}"


class Place:
    """Namespaces in a row: `srv` has the server; each of `direct` a cable to it; `inner` a cable to `proxy` only, which has one to the server."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="souk place ")
        self.tag = f"p{os.getpid() % 100000}"
        self.spaces, self.processes, self.logs = [], {}, {}
        self.cable_count = 0

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def space(self, who):
        return self.tag + who

    def lay(self):
        for who in ("srv", "user", "vol", "proxy", "inner"):
            run("ip", "netns", "add", self.space(who))
            self.spaces.append(who)
            run("ip", "-n", self.space(who), "link", "set", "lo", "up")
        for who in ("user", "vol", "proxy"):
            self.cable("srv", who)
        self.proxy_address = self.cable("proxy", "inner")

    def cable(self, near, far):
        self.cable_count += 1
        n = self.cable_count
        run("ip", "link", "add", f"v{n}", "netns", self.space(near), "type", "veth", "peer", "name", f"w{n}", "netns", self.space(far))
        for who, end, last in ((near, f"v{n}", 1), (far, f"w{n}", 2)):
            run("ip", "-n", self.space(who), "addr", "add", f"10.178.{n}.{last}/24", "dev", end)
            run("ip", "-n", self.space(who), "link", "set", end, "up")
        folder = f"/etc/netns/{self.space(far)}"
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "hosts"), "w") as hosts:  # `ip netns exec` shows it as /etc/hosts
            hosts.write("127.0.0.1 localhost\n" + (f"10.178.{n}.1 {DOMAIN}\n" if near == "srv" else ""))
        return f"10.178.{n}.1"

    def words(self, who, words):
        return ["ip", "netns", "exec", self.space(who), *map(str, words)]

    def environment(self, who, **more):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SOUK_DIR", "SOUK_GRID", "XDG_"))}
        os.makedirs(self.path("home", who), exist_ok=True)
        return {**clean, "HOME": self.path("home", who), **more}

    def call(self, who, *words, input=None, **more):
        return Answer(subprocess.run(self.words(who, words), input=input, capture_output=True, text=True, timeout=90, env=self.environment(who, **more),
                                     **({} if input is not None else {"stdin": subprocess.DEVNULL})))

    def souk(self, who, *words, **more):
        return self.call(who, PROGRAM["souk"], *words, **more)

    def start(self, name, who, words):
        self.logs[name] = self.path(name + ".log")
        with open(self.logs[name], "ab") as file:
            self.processes[name] = subprocess.Popen(self.words(who, words), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=self.environment(who), cwd=self.folder)
        return self.processes[name]

    def log(self, name):
        with open(self.logs[name], errors="replace") as file:
            return file.read()

    def all_logs(self):
        return "".join(f"== {name}\n{self.log(name)[-3000:]}\n" for name in self.logs)

    def end(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    # ---- The grid
    def authority(self, name="ca"):
        issue.authority(self.folder, name)

    def certificate(self, domain=DOMAIN, **more):
        issue.certificate(self.folder, domain, **more)

    def init(self, *more, out="grid"):
        return self.souk("srv", "server", "init", "--domain", DOMAIN, "--server", KIND, "--cert", self.path("server.crt"), "--key", self.path("server.key"), "--ca-file", self.path("ca.pem"),
                         "--out", self.path(out), *more)

    def unit_words(self, part):
        """The command of a unit, as systemd would run it."""
        with open(self.path("grid", f"souk-{part}.service")) as file:
            line = re.search(r"^ExecStart=(.*)$", file.read(), re.M).group(1)
        return [word.replace('\\"', '"').replace("\\\\", "\\").replace("%%", "%").replace("$$", "$") for word in re.findall(r'"((?:[^"\\]|\\.)*)"', line)]

    def start_server(self):
        self.start("server", "srv", self.unit_words("server"))

    def start_manager(self, *more):
        self.start("manager", "srv", [*self.unit_words("manager"), *more])
        until(lambda: "market open" in self.log("manager"), "the market is open", 60)

    def admin(self, who, *words, **more):
        return self.souk(who, "--profile", self.path("grid", "admin", "admin.toml"), *words, **more)

    def secret(self, part):
        with open(self.path("grid", part, part + ".password")) as file:
            return file.read()

    def close(self):
        for name in reversed(list(self.processes)):
            self.end(name)
        for who in self.spaces:
            subprocess.run(["ip", "netns", "del", self.space(who)], capture_output=True)
            shutil.rmtree(f"/etc/netns/{self.space(who)}", ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


class Grid(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = Place()
        cls.addClassCleanup(cls.place.close)
        cls.place.lay()
        cls.place.authority()
        cls.place.certificate()
        cls.written = cls.place.init()
        assert cls.written.code == 0, cls.written
        cls.place.start_server()
        cls.place.start_manager()

    def findings(self, answer):
        return {line["about"]: line for line in answer.lines}

    def put_file(self, jid, password_file):
        with open(self.place.path("file"), "wb") as file:
            file.write(os.urandom(5_000_000))
        return self.place.call("user", "/usr/bin/python3", os.path.join(HERE, "put_file.py"), jid, password_file, DOMAIN, 5222, self.place.path("ca.pem"), self.place.path("file"), f"upload.{DOMAIN}")

    def check(self, who="user", *words):
        return self.place.admin(who, "server", "check", "--json", *words)


class Server(Grid):
    def test_what_init_writes_is_for_its_owner_only_and_not_written_twice(self):
        for folder, _, names in os.walk(self.place.path("grid")):
            self.assertEqual(mode(folder) & 0o077, 0, folder)
            for name in names:
                path = os.path.join(folder, name)
                if not stat.S_ISSOCK(os.stat(path).st_mode) and "mnesia" not in path and ".log" not in name:
                    self.assertEqual(mode(path) & 0o077, 0, path)
        before = self.place.secret("admin")
        again = self.place.init()
        self.assertEqual(again.code, 2, again)
        self.assertIn("is there already", again.err)
        forced = self.place.init("--force")
        self.assertEqual(forced.code, 0, forced)
        self.assertEqual(self.place.secret("admin"), before, "passwords stay")
        for done in (self.written, forced):
            self.assertNotIn("listens", done.out)
        second = self.place.init("--upload-port", "15443", out="second")
        self.assertEqual(re.findall(r"something listens at port (\d+) already.* sudo systemctl disable --now (\w+); else take another port: (\S+)", second.out),
                         [("5222", KIND, "--port"), ("5347", KIND, "--component-port")], second)
        shutil.rmtree(self.place.path("second"))
        self.assertEqual(len(re.findall(r"^  \d\. ", self.written.out, re.M)), 3, self.written)

    def test_a_certificate_that_does_not_do_is_refused_before_anything_is_written(self):
        self.place.certificate(domain="other.test", name="other")
        self.place.authority("stranger")
        for cert, key, ca, why in (("other.crt", "other.key", "ca.pem", "not for " + DOMAIN), ("server.crt", "other.key", "ca.pem", "another certificate"),
                                   ("server.crt", "server.key", "stranger.pem", "does not do"), ("server.key", "server.key", "ca.pem", "no PEM certificate")):
            done = self.place.souk("srv", "server", "init", "--domain", DOMAIN, "--cert", self.place.path(cert), "--key", self.place.path(key), "--ca-file", self.place.path(ca), "--out", self.place.path("no"))
            self.assertEqual(done.code, 2, done)
            self.assertIn(why, done.err)
            self.assertFalse(os.path.exists(self.place.path("no")))

    def test_check_finds_nothing_wrong_and_says_what_it_looked_at(self):
        done = self.check()
        self.assertEqual(done.code, 0, (done, self.place.all_logs()))
        found = self.findings(done)
        print({about: line["what"] for about, line in found.items()})
        for about in ("connection", "encryption", "tls-chain", "tls-name", "tls-days", "mechanisms", "login", "round-trip", "stanza-size", "rooms", "uploads", "manager", "clock"):
            self.assertEqual(found[about]["level"], "ok", found[about])
        self.assertIn("SCRAM-SHA-1", found["mechanisms"]["what"])
        self.assertIn("10" if KIND == "prosody" else "1024", found["uploads"]["what"])

    def test_a_stranger_sees_the_outside_only_and_a_wrong_authority_keeps_passwords_at_home(self):
        found = self.findings(self.place.souk("user", "server", "check", "--domain", DOMAIN, "--json", "--ca-file", self.place.path("ca.pem")))
        self.assertEqual(found["tls-chain"]["level"], "ok")
        self.assertNotIn("round-trip", found)
        self.place.authority("impostor")
        done = self.check("user", "--ca-file", self.place.path("impostor.pem"))
        self.assertEqual(done.code, 1)
        self.assertEqual(self.findings(done)["tls-chain"]["level"], "wrong")
        self.assertIn("no password goes", self.findings(done)["login"]["what"])

    def test_a_file_is_sent_and_fetched_by_a_stock_client(self):
        done = self.put_file(f"admin@{DOMAIN}", self.place.path("grid", "admin", "admin.password"))
        self.assertIn("same", done.out, (done, self.place.all_logs()))

    @unittest.skipIf(KIND != "ejabberd", "Prosody's module knows hosts only; its quotas hold for invitations too")
    def test_an_invitation_stores_no_files(self):
        name, secret = re.search(r"preauth=(invite-\w+)\.(\w+)", self.place.admin("user", "invite", "user", "--json").lines[0]["link"]).groups()
        with open(self.place.path("secret"), "w") as file:
            file.write(secret)
        done = self.put_file(f"{name}@{DOMAIN}", self.place.path("secret"))
        self.assertNotIn("same", done.out, done)
        self.assertIn("forbidden", done.out + done.err)

    def test_a_worker_and_a_user_on_other_machines_work(self):
        worker = self.place.unit_words("worker")
        self.assertEqual(worker[0], "souk-worker", "where it stands on another machine is not known here")
        worker[0] = PROGRAM["worker"]
        worker[worker.index("--profile") + 1] = self.place.path("grid", "worker", "worker.toml")
        worker[worker.index("--work") + 1] = self.place.path("work")
        self.place.start("worker", "vol", worker)
        self.addCleanup(lambda: self.place.end("worker"))
        until(lambda: len(self.place.admin("user", "workers", "--json").lines) == 1, "the worker is in the market", 60)
        done = self.place.admin("user", "run", "--array", "1-20", "--", "echo", "{}")
        self.assertEqual((done.code, done.out), (0, "".join(f"{i}\n" for i in range(1, 21))), (done, self.place.all_logs()))

    def test_a_manager_that_is_away_is_found_missing(self):
        self.place.end("manager")
        try:
            done = self.check()
            self.assertEqual(done.code, 1, done)
            self.assertEqual(self.findings(done)["manager"]["level"], "wrong")
            self.assertEqual(self.findings(done)["round-trip"]["level"], "ok")
        finally:
            self.place.start_manager()


class Findings(Grid):
    """Servers that somebody set up in another way."""

    def again(self, change, look=None):
        path = self.place.path("grid", "server", "prosody.cfg.lua" if KIND == "prosody" else "ejabberd.yml")
        with open(path) as file:
            text = file.read()
        changed = change(text)
        self.assertNotEqual(changed, text)
        with open(path, "w") as file:
            file.write(changed)
        try:
            self.place.end("server")
            self.place.start_server()
            until(lambda: self.place.call("user", sys.executable, "-c", f"import socket; socket.create_connection(('{DOMAIN}', 5222), 2)").code == 0, "it listens", 60)
            until(lambda: self.findings(self.place.souk("user", "server", "check", "--domain", DOMAIN, "--json", "--ca-file", self.place.path("ca.pem"))).get("mechanisms"), "it answers", 30)
            return look() if look else self.findings(self.check())
        finally:
            with open(path, "w") as file:
                file.write(text)

    def test_small_stanzas_only(self):
        found = self.again(lambda text: text.replace("c2s_stanza_size_limit = 1048576", "c2s_stanza_size_limit = 100000") if KIND == "prosody" else text.replace("1048576", "100000", 1))
        self.assertEqual(found["stanza-size"]["level"], "wrong", found)
        found = self.again(lambda text: text.replace("c2s_stanza_size_limit = 1048576", "c2s_stanza_size_limit = 262144") if KIND == "prosody" else text.replace("1048576", "262144", 1))
        self.assertEqual(found["stanza-size"]["level"], "warning", found)

    def with_certificate(self, **more):
        """What is found when the server shows another certificate."""
        kept = {name: self.place.path(name) + ".kept" for name in ("server.crt", "server.key")}
        for name, copy in kept.items():
            shutil.copy(self.place.path(name), copy)
        try:
            self.place.certificate(**more)
            return self.again(lambda text: text + "\n")
        finally:
            for name, copy in kept.items():
                os.replace(copy, self.place.path(name))

    def test_a_certificate_that_ended_and_one_of_another_name_are_found_and_get_no_password(self):
        for more, about, why in (({"begins": "20240101000000Z", "ends": "20240201000000Z"}, "tls-days", "has expired"), ({"domain": "chat.souk.test"}, "tls-name", "is not for " + DOMAIN)):
            found = self.with_certificate(**more)
            self.assertEqual(found[about]["level"], "wrong", found)
            self.assertIn(why, found[about]["what"])
            self.assertIn("no password goes", found["login"]["what"])
            self.assertNotIn("round-trip", found)
        self.assertEqual(self.again(lambda text: text + "\n")["tls-name"]["level"], "ok")

    @unittest.skipIf(KIND != "prosody", "of Prosody")
    def test_services_that_never_answer_cost_little_time_however_many_there_are(self):
        def look():
            self.place.start("silent", "srv", [sys.executable, os.path.join(HERE, "silent_services.py"), DOMAIN, 12])
            self.addCleanup(lambda: self.place.end("silent"))
            until(lambda: "there" in self.place.log("silent"), "they are connected", 20)
            began = time.monotonic()
            found = self.findings(self.check())
            took = time.monotonic() - began
            self.place.end("manager")
            began = time.monotonic()
            missing = self.place.souk("user", "login", f"admin@{DOMAIN}", "--password-file", self.place.path("grid", "admin", "admin.password"), "--ca-file", self.place.path("ca.pem"))
            return found, took, missing, time.monotonic() - began
        try:
            found, took, missing, more = self.again(lambda text: text + "".join(f'\nComponent "silent{i}.{DOMAIN}"\n  component_secret = "x"\n' for i in range(12)), look)
        finally:
            self.place.start_manager()
        print(f"  check {took:.1f} s, login without a manager {more:.1f} s")
        self.assertEqual(found["rooms"]["level"], "ok", found)
        self.assertEqual(missing.code, 3, missing)
        self.assertLess(took, 20, "one after the other they would take 36 s")
        self.assertLess(more, 20)

    @unittest.skipIf(KIND != "ejabberd", "Prosody's quotas are its own")
    def test_nobody_fills_the_disk_with_files(self):
        def look():
            for _ in range(3):
                self.assertIn("same", self.put_file(f"admin@{DOMAIN}", self.place.path("grid", "admin", "admin.password")).out)
            stored = lambda: sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(self.place.path("grid", "server", "uploads")) for name in names)  # noqa: E731
            until(lambda: stored() < 12 << 20, "the oldest are gone", 20)
        self.again(lambda text: re.sub(r"(upload_soft|upload_hard): \d+", lambda found: f"{found.group(1)}: {dict(upload_soft=6, upload_hard=11)[found.group(1)]}", text), look)

    @unittest.skipIf(KIND != "prosody", "only Prosody's sockets need tuning")
    def test_sockets_that_are_not_tuned(self):
        found = self.again(lambda text: re.sub(r"network_settings = .*", "", text))
        self.assertEqual(found["round-trip"]["level"], "warning", found["round-trip"])
        self.assertIn("min_wait", found["round-trip"]["remedy"])

    @unittest.skipIf(KIND != "prosody", "of Prosody")
    def test_a_rate_limit(self):
        found = self.again(lambda text: text.replace(', "limits" }', " }").replace('"admin_adhoc" }', '"admin_adhoc", "limits" }\nlimits = { c2s = { rate = "10kb/s" } }'))
        self.assertEqual(found["round-trip"]["level"], "wrong", found["round-trip"])

    @unittest.skipIf(KIND != "prosody", "of Prosody")
    def test_no_rooms_and_no_need_of_encryption(self):
        found = self.again(lambda text: re.sub(r'(?s)Component "rooms.*?\n\n', "", text).replace("c2s_require_encryption = true; allow_unencrypted_plain_auth = false", "c2s_require_encryption = false; allow_unencrypted_plain_auth = true"))
        self.assertEqual(found["rooms"]["level"], "warning", found)
        self.assertEqual(found["encryption"]["level"], "warning", found)


class Login(Grid):
    def log_in(self, who, *words, password=None, jid=f"admin@{DOMAIN}"):
        secret = password or self.place.secret("admin")
        return self.place.souk(who, "login", jid, "--password-file", "-", "--ca-file", self.place.path("ca.pem"), *words, input=secret)

    def grids(self, who):
        return {line["grid"]: line for line in self.place.souk(who, "grids", "--json").lines}

    def test_an_account_is_all_it_takes_and_grids_stand_side_by_side(self):
        done = self.log_in("user")
        self.assertEqual(done.code, 0, (done, self.place.all_logs()))
        home = self.place.path("home", "user", ".config", "souk", "grids", DOMAIN)
        for name in ("profile.toml", "password", "ca.pem"):
            self.assertEqual(mode(os.path.join(home, name)), 0o600)
        self.assertEqual(mode(home), 0o700)
        done = self.place.souk("user", "jobs", "--json")
        self.assertEqual(done.code, 0, done)
        self.assertEqual(self.log_in("user").code, 0, "the same one again, with a new password maybe")
        self.assertEqual(self.log_in("user", "--grid", "second").code, 0)
        for force, code in ((), 2), (("--force",), 0):
            done = self.log_in("user", "--grid", "second", *force, jid=f"worker@{DOMAIN}", password=self.place.secret("worker"))
            self.assertEqual(done.code, code, done)
            self.assertIn(f"admin@{DOMAIN} already" if code else f"no longer as admin@{DOMAIN}", done.err + done.out)
            self.assertEqual(self.grids("user")["second"]["jid"], f"worker@{DOMAIN}" if force else f"admin@{DOMAIN}")
        self.assertEqual(self.log_in("user", "--grid", "second", "--force").code, 0)
        self.assertEqual({name: grid["default"] for name, grid in self.grids("user").items()}, {"local": False, DOMAIN: True, "second": False})
        self.assertEqual(self.place.souk("user", "--grid", "second", "submit", "--hold", "true").code, 0)
        self.assertEqual(self.place.souk("user", "grids", "--use", "second").code, 0)
        self.assertTrue(self.grids("user")["second"]["default"])
        self.assertIn("no grid in", self.place.souk("user", "--grid", "local", "jobs").err, "there is none on this machine")
        unknown = self.place.souk("user", "--grid", "third", "jobs")
        self.assertEqual(unknown.code, 2)
        self.assertIn("known are", unknown.err)
        self.assertEqual(self.place.souk("user", "logout", "--grid", DOMAIN).code, 0)
        self.assertFalse(os.path.exists(home))
        self.assertEqual(self.place.souk("user", "logout").code, 0, "the usual one")
        self.assertEqual(set(self.grids("user")), {"local"})
        self.assertTrue(self.grids("user")["local"]["default"])

    def test_what_does_not_work_is_not_kept(self):
        done = self.log_in("vol", password="wrong\n")
        self.assertEqual(done.code, 3, done)
        self.assertIn("wrong user name or password", done.err)
        self.assertEqual(set(self.grids("vol")), {"local"})
        self.assertEqual(self.place.souk("vol", "login", f"admin@{DOMAIN}").code, 2, "no terminal, no password")
        self.place.authority("impostor")
        done = self.place.souk("vol", "login", f"admin@{DOMAIN}", "--password-file", self.place.path("grid", "admin", "admin.password"), "--ca-file", self.place.path("impostor.pem"))
        self.assertEqual(done.code, 3, done)
        self.assertEqual(set(self.grids("vol")), {"local"})

    def test_through_a_proxy_and_only_through_it(self):
        self.assertEqual(self.log_in("inner").code, 3, "it knows no way to the server")
        self.place.start("proxy", "proxy", [sys.executable, os.path.join(HERE, "small_proxy.py"), self.place.proxy_address, "8080"])
        self.addCleanup(lambda: self.place.end("proxy"))
        until(lambda: "port" in self.place.log("proxy"), "the proxy listens")
        for scheme, name in (("http", "web"), ("socks5", "socks")):
            done = self.log_in("inner", "--grid", name, "--proxy", f"{scheme}://{self.place.proxy_address}:8080")
            self.assertEqual(done.code, 0, (done, self.place.all_logs()))
            self.assertIn(f"tunnel {scheme} {DOMAIN}:5222", self.place.log("proxy"), "the name was looked up there")
            done = self.place.souk("inner", "--grid", name, "jobs", "--json")
            self.assertEqual(done.code, 0, done)
            done = self.place.souk("inner", "--grid", name, "server", "check", "--json")
            self.assertEqual(done.code, 0, done)
            self.assertIn("through", self.findings(done)["connection"]["what"])
        # A worker, too.
        profile = self.place.path("proxied.toml")
        with open(self.place.path("grid", "worker", "worker.toml")) as file:
            text = file.read().replace('"worker.password"', f'"{self.place.path("grid", "worker", "worker.password")}"').replace('"ca.pem"', f'"{self.place.path("ca.pem")}"')
        with open(profile, "w") as file:
            file.write(text + f'proxy = "socks5://{self.place.proxy_address}:8080"\n')
        self.place.start("worker", "inner", [PROGRAM["worker"], "--profile", profile, "--work", self.place.path("work inner"), "--name", "inner", "--slots", 1])
        self.addCleanup(lambda: self.place.end("worker"))
        until(lambda: self.place.souk("inner", "--grid", "web", "workers", "--json").lines, "it is in the market", 60)
        done = self.place.souk("inner", "--grid", "web", "run", "echo", "here")
        self.assertEqual((done.code, done.out), (0, "here\n"), done)

    def test_a_proxy_that_refuses_is_named(self):
        self.place.start("refusing", "proxy", [sys.executable, os.path.join(HERE, "small_proxy.py"), self.place.proxy_address, "8081", "refuse"])
        self.addCleanup(lambda: self.place.end("refusing"))
        until(lambda: "port" in self.place.log("refusing"), "the proxy listens")
        for scheme, why in (("http", "403 Forbidden"), ("socks5", "name and password")):
            done = self.log_in("inner", "--grid", "no", "--proxy", f"{scheme}://{self.place.proxy_address}:8081")
            self.assertEqual(done.code, 3, done)
            self.assertIn(why, done.err)
        done = self.log_in("inner", "--grid", "no", "--proxy", "http://ada:s3cret@proxy:1")
        self.assertEqual(done.code, 2)
        self.assertNotIn("s3cret", done.err)


class Invitations(Grid):
    def invite(self, *words):
        done = self.place.admin("user", "invite", *words, "--json")
        self.assertEqual(done.code, 0, (done, self.place.all_logs()))
        return done.lines[0]

    def join(self, link, folder, *words, who="vol"):
        return self.place.call(who, PROGRAM["worker"], "join", link, "--dir", self.place.path(folder), "--ca-file", self.place.path("ca.pem"), "--no-start", *words)

    def work(self, name, folder, who="vol"):
        process = self.place.start(name, who, [PROGRAM["worker"], "--profile", self.place.path(folder, "worker.toml"), "--work", self.place.path("work " + name), "--name", name, "--slots", 1])
        until(lambda: name in self.names(), "it is in the market", 60)
        return process

    def names(self):
        return [line["worker"] if "worker" in line else line["name"] for line in self.place.admin("user", "workers", "--json").lines]

    def test_one_link_lets_in_as_many_machines_as_it_says(self):
        invited = self.invite("worker", "--expires", "7d", "--uses", 2)
        self.assertRegex(invited["link"], rf"^xmpp:{DOMAIN}\?register;preauth=invite-[a-z0-9]+\.[a-z0-9]{{32}};manager=")
        self.assertEqual(invited["command"], f"souk-worker join '{invited['link']}' --ca-file ca.pem", "what the link does not tell")
        for folder in ("first", "second"):
            done = self.join(invited["link"], folder)
            self.assertEqual(done.code, 0, (done, self.place.all_logs()))
            self.assertRegex(done.out, r"speed \d+\.\d")
            self.assertRegex(done.out, r"Sandbox: bwrap|No sandbox works here, so tasks of others are refused: .+")
            self.assertEqual(mode(self.place.path(folder)), 0o700)
            for name in ("worker.toml", "worker.password"):
                self.assertEqual(mode(self.place.path(folder, name)), 0o600)
        again = self.join(invited["link"], "first")
        self.assertEqual(again.code, 2, "it joined already")
        third = self.join(invited["link"], "third")
        self.assertEqual(third.code, 3, third)
        self.assertRegex(third.err, "as often as it may be|used up")
        self.assertFalse(os.path.exists(self.place.path("third", "worker.toml")))
        self.work("joined", "first")
        self.addCleanup(lambda: self.place.end("joined"))
        self.assertEqual(self.place.admin("user", "run", "echo", "works").out, "works\n")
        refused = self.place.souk("vol", "--profile", self.place.path("first", "worker.toml"), "submit", "true")
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("made for a worker", refused.err)
        self.assertEqual(mode(self.place.path("grid", "manager", "state", "invitations.json")), 0o600)
        listed = self.place.admin("user", "invite", "list")
        self.assertIn("2/2 used", listed.out)

    def test_what_is_revoked_lets_nobody_in_and_throws_out_at_once(self):
        invited = self.invite("worker", "--uses", 5)
        self.assertEqual(self.join(invited["link"], "stays").code, 0)
        worker = self.work("stays", "stays")
        self.assertEqual(self.place.admin("user", "invite", "revoke", invited["id"]).code, 0)
        refused = self.join(invited["link"], "late")
        self.assertEqual(refused.code, 3, refused)
        self.assertIn("revoked", refused.err)
        self.assertIn("stays", self.names())
        began = time.monotonic()
        done = self.place.admin("user", "invite", "revoke", invited["id"], "--with-accounts")
        self.assertEqual(done.code, 0, (done, self.place.all_logs()))
        self.place.processes.pop("stays")
        try:
            self.assertEqual(worker.wait(20), 3, self.place.log("stays"))
        except subprocess.TimeoutExpired:
            worker.kill()
            raise
        until(lambda: "stays" not in self.names(), "the manager knows")
        print(f"  out after {time.monotonic() - began:.1f} s")
        self.assertEqual(self.place.admin("user", "invite", "revoke", "invite-none").code, 2)

    def test_what_expired_lets_nobody_in(self):
        invited = self.invite("worker", "--expires", "1s")
        time.sleep(1.1)
        done = self.join(invited["link"], "old")
        self.assertEqual(done.code, 3, done)
        self.assertIn("expired", done.err)

    def test_a_person_comes_in_by_a_link_and_is_no_admin(self):
        invited = self.invite("user", "--uses", 2)
        ca = ("--ca-file", self.place.path("ca.pem"))
        taken = self.place.souk("vol", "join", invited["link"], "--as", "manager", *ca)
        self.assertEqual(taken.code, 2, taken)
        done = self.place.souk("vol", "join", invited["link"], "--as", "ada", *ca)
        self.assertEqual(done.code, 0, (done, self.place.all_logs()))
        self.assertEqual(self.place.souk("vol", "submit", "--hold", "true").code, 0)
        refused = self.place.souk("vol", "invite", "worker")
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("only admins", refused.err)
        again = self.place.souk("user", "join", invited["link"], "--as", "ada", *ca)
        self.assertEqual(again.code, 2, again)
        self.assertEqual(self.place.souk("user", "join", invited["link"], "--as", "bob", *ca).code, 0, "what failed spent no use")
        self.assertEqual(self.join(self.invite("user")["link"], "wrong").code, 3, "no worker comes in by it")
        # Names that are somebody's although the server has no such account: of the policy, and of who has jobs.
        with open(self.place.path("grid", "manager", "policy.toml"), "a") as file:
            file.write(f'\n[[rule]]\nname = "boss"\nwho = "boss@{DOMAIN}"\nroles = ["admin"]\n')
        until(lambda: self.audited("policy"), "the manager has read it")
        link = self.invite("user")["link"]
        refused = self.place.souk("user", "join", link, "--as", "boss", "--grid", "other", *ca)
        self.assertEqual(refused.code, 2, refused)
        self.assertIn("the name is taken", refused.err)
        self.assertIn("named by rule 'boss'", self.audited("refused")[-1])
        self.assertEqual(self.place.admin("user", "invite", "revoke", invited["id"], "--with-accounts").code, 0)
        refused = self.place.souk("user", "join", link, "--as", "ada", "--grid", "other", *ca)
        self.assertIn("the name is taken", refused.err, "her account is gone, and her job is not")
        self.assertIn(f"account=ada@{DOMAIN}", self.audited("join")[0])
        self.assertIn("role=user uses=2", self.audited("invite")[0])
        self.assertIn('accounts="ada bob"', self.audited("revoke")[-1])

    def audited(self, verb):
        with open(self.place.path("grid", "manager", "state", "audit.log")) as file:
            return [line for line in file if line.split()[1] == verb]

    def test_who_is_banned_does_not_come_back_by_the_same_link(self):
        invited = self.invite("worker", "--uses", 5)
        self.assertEqual(self.join(invited["link"], "banned").code, 0)
        worker = self.work("banned", "banned")
        done = self.place.admin("user", "workers", "ban", "banned")
        self.assertEqual(done.code, 0, (done, self.place.all_logs()))
        self.place.processes.pop("banned")
        try:
            self.assertEqual(worker.wait(20), 3, self.place.log("banned"))
        except subprocess.TimeoutExpired:
            worker.kill()
            raise
        refused = self.join(invited["link"], "again")
        self.assertEqual(refused.code, 3, refused)
        self.assertTrue(any(invited["id"] in line and "is banned, who came by it" in line for line in self.audited("revoke")), self.audited("revoke"))

    def test_an_invitation_can_do_nothing_but_join(self):
        link = self.invite("worker")["link"]
        name, secret = re.search(r"preauth=(invite-\w+)\.(\w+)", link).groups()
        done = self.place.souk("vol", "login", f"{name}@{DOMAIN}", "--grid", "sneak", "--password-file", "-", "--ca-file", self.place.path("ca.pem"), input=secret)
        self.assertEqual(done.code, 0, done)
        for words in (("submit", "true"), ("workers",), ("invite", "worker")):
            done = self.place.souk("vol", "--grid", "sneak", *words)
            self.assertEqual(done.code, 2, done)
            self.assertIn("nothing but join", done.err)
        self.place.souk("vol", "logout", "--grid", "sneak")

    def test_what_was_invited_is_known_after_the_manager_died(self):
        link = self.invite("worker")["link"]
        manager = self.place.processes.pop("manager")
        manager.kill()
        manager.wait()
        self.place.start_manager()
        self.assertEqual(self.join(link, "after").code, 0)

    def test_it_goes_on_as_the_worker_and_can_be_a_service(self):
        link = self.invite("worker", "--uses", 2)["link"]
        self.place.start("straight", "vol", [PROGRAM["worker"], "join", link, "--ca-file", self.place.path("ca.pem"), "--", "--slots", 1, "--name", "straight", "--work", self.place.path("straight")])
        self.addCleanup(lambda: self.place.end("straight"))
        until(lambda: "straight" in self.names(), "it is in the market", 60)
        self.place.call("user", "true")
        done = self.place.call("user", PROGRAM["worker"], "join", link, "--ca-file", self.place.path("ca.pem"), "--install", "--", "--slots", 2)
        unit = self.place.path("home", "user", ".config", "systemd", "user", f"souk-worker-{DOMAIN}.service")
        self.assertTrue(os.path.exists(unit), done)
        with open(unit) as file:
            text = file.read()
        self.assertIn('"--slots" "2"\n', text)
        self.assertIn("\nWorkingDirectory=-/", text)
        # Who said no, or had no session, needs no other invitation: this one is used up.
        again = self.place.call("user", PROGRAM["worker"], "join", link)
        self.assertEqual(again.code, 2, again)
        self.assertIn("this command with --install", again.err)
        again = self.place.call("user", PROGRAM["worker"], "join", link, "--install", "--", "--slots", 3)
        self.assertIn("enable-linger", again.out)
        self.assertNotIn("not good", again.err)
        with open(unit) as file:
            self.assertIn('"--slots" "3"\n', file.read())

    def test_it_writes_over_nothing_of_somebody_else(self):
        link = self.invite("worker")["link"]
        unit = self.place.path("home", "user", ".config", "systemd", "user", f"souk-worker-{DOMAIN}.service")
        there = self.place.path("home", "user", "papers")
        os.makedirs(os.path.dirname(unit), exist_ok=True)
        os.makedirs(there)
        os.chmod(there, 0o755)
        if os.path.exists(unit):
            os.rename(unit, unit + ".before")
        with open(unit, "w") as file:
            file.write("[Service]\nExecStart=/bin/true\n")
        join = [PROGRAM["worker"], "join", link, "--ca-file", self.place.path("ca.pem"), "--dir", there]
        done = self.place.call("user", *join, "--install")
        self.assertNotEqual(done.code, 0, done)
        self.assertIn("starts something else", done.err)
        with open(unit) as file:
            self.assertIn("/bin/true", file.read())
        self.assertEqual(os.listdir(there), [])
        for wrong, why in ((("--slots", "many"), "--slots"), (("--hours", "always"), "hours"), (("--owner", "@"), "--owner"), (("--drain",), "--drain"), (("--profil", "x"), "--profil")):
            done = self.place.call("user", *join, "--no-start", "--", *wrong)
            self.assertEqual(done.code, 2, done)
            self.assertIn(why, done.err)
        self.assertEqual(os.listdir(there), [])
        done = self.place.call("user", *join, "--no-start")  # the invitation was not spent
        self.assertEqual(done.code, 0, done)
        self.assertEqual(os.stat(there).st_mode & 0o777, 0o755)
        for name in os.listdir(there):
            if name != "ca.pem":
                self.assertEqual(os.stat(os.path.join(there, name)).st_mode & 0o777, 0o600, name)
        os.chmod(there, 0o777)
        for name in os.listdir(there):
            os.unlink(os.path.join(there, name))
        self.assertIn("others may write into it", self.place.call("user", *join, "--no-start").err)
        os.unlink(unit)


if __name__ == "__main__":
    main(can_cut(), KIND)
