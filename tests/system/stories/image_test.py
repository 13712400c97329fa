#!/usr/bin/env python3
"""Tasks whose system is an image of podman: a worker that offers one, from podman's store to the task. The image is made of this host's programs, by a store of its own: no registry is asked."""
import glob
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from grid import Grid, SOUK, until

WORKER = os.path.join(os.path.dirname(SOUK), "souk-worker")
IMAGE = "localhost/lab:1"


def skip(why):
    print(f"image_test: SKIPPED: {why}", flush=True)
    sys.exit(77)


def text_of(path):
    with open(path, errors="replace") as file:
        return file.read()


class Store:
    """podman's, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        with open(os.path.join(folder, "storage.conf"), "w") as file:
            file.write(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n')
        self.environment = {"CONTAINERS_STORAGE_CONF": os.path.join(folder, "storage.conf")}

    def podman(self, *words, **more):
        done = subprocess.run(["podman", *words], env=os.environ | self.environment, capture_output=True, timeout=60, **more)
        if done.returncode != 0:
            raise AssertionError(f"podman {words}: {done.stderr.decode()}")
        return done.stdout.decode()

    def make(self, name, word, *changes):
        """An image with a shell, some programs, a file that says `word`, and what should not be in one."""
        system = tempfile.mkdtemp(dir=self.folder)
        programs = [shutil.which(program, path="/usr/bin:/bin") for program in ("dash", "cat", "ls", "touch", "chmod", "env", "stat")]
        for program in programs:
            for file in [program, *re.findall(r"/\S+", subprocess.run(["ldd", program], capture_output=True, text=True).stdout)]:
                to = system + ("/opt/tools/" + os.path.basename(file) if file == program else os.path.realpath(os.path.dirname(file)) + "/" + os.path.basename(file))
                os.makedirs(os.path.dirname(to), exist_ok=True)
                shutil.copy(file, to)
        for name_there, to in (("bin", "opt/tools"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("bait", os.path.abspath(self.folder)), ("opt/tools/sh", "dash")):
            os.symlink(to, os.path.join(system, name_there))
        os.makedirs(system + "/etc")
        os.makedirs(system + "/dev")
        os.symlink(os.path.join(self.folder, "of-the-host"), system + "/etc/passwd")  # must not be written through
        with open(system + "/etc/only-here", "w") as file:
            file.write(word + "\n")
        os.chmod(system + "/etc/only-here", 0o600)
        os.chmod(system + "/opt/tools/cat", 0o6755)
        os.mkfifo(system + "/opt/pipe")
        tar = subprocess.run(["tar", "-C", system, "-c", "."], stdout=subprocess.PIPE, check=True).stdout
        self.podman("import", *[part for change in changes for part in ("--change", change)], "-", name, input=tar)
        shutil.rmtree(system)


class Registry(http.server.ThreadingHTTPServer):
    """Has one image for whoever pulls it, as podman puts it into a folder (OCI distribution, the part that reads)."""

    def __init__(self, store, image):
        self.folder = os.path.join(store.folder, "registry")
        store.podman("push", image, "dir:" + self.folder)
        store.podman("rmi", image)
        super().__init__(("127.0.0.1", 0), Pulled)
        self.host = f"127.0.0.1:{self.server_port}"
        with open(os.path.join(store.folder, "registries.conf"), "w") as file:
            file.write(f'[[registry]]\nlocation = "{self.host}"\ninsecure = true\n')
        store.environment["CONTAINERS_REGISTRIES_CONF"] = file.name
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Pulled(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what = {"/v2/": "version", "/v2/lab/manifests/7": "manifest.json"}.get(self.path) or self.path.removeprefix("/v2/lab/blobs/sha256:")
        path = os.path.join(self.server.folder, os.path.basename(what))
        if not os.path.isfile(path):
            return self.send_error(404)
        with open(path, "rb") as file:
            content = file.read()
        self.send_response(200)
        self.send_header("Content-Type", json.loads(content).get("mediaType", "application/vnd.oci.image.manifest.v1+json") if what == "manifest.json" else "application/octet-stream")
        self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(content).hexdigest())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.grid = Grid("--slots", "2", "--sandbox", "auto")
        try:
            cls.started = []
            cls.store = Store(os.path.join(cls.grid.folder.replace(" ", "-") + "-podman"))
            cls.cache = os.path.join(cls.grid.folder, "cache")
            cls.store.make(IMAGE, "of the image", "ENV=PATH=/opt/tools", "ENV=GREETING=hello", "ENV=HOME=/root", "ENTRYPOINT=/opt/tools/false")
            done = cls.grid.souk("user", "add", "vera")
            assert done.code == 0, done
            cls.worker = cls.start("lab", "--image", IMAGE)
            until(lambda: cls.seen("lab") or cls.worker.poll() is not None, "the worker is in the market")
            if not cls.seen("lab"):
                raise AssertionError(text_of(cls.log("lab")))
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        for process in cls.started:
            process.terminate()
            process.wait(15)
        cls.grid.close()
        shutil.rmtree(cls.store.folder, ignore_errors=True)

    @classmethod
    def log(cls, name):
        return os.path.join(cls.grid.folder, name + ".worker-log")

    @classmethod
    def start(cls, name, *options, path=None):
        with open(cls.log(name), "wb") as log:
            process = subprocess.Popen([WORKER, "--profile", os.path.join(cls.grid.folder, "users", "vera.toml"), "--work", os.path.join(cls.grid.folder, name), "--name", name, "--slots", "1",
                                        *options], stderr=log, env=cls.grid.environment() | cls.store.environment | {"XDG_CACHE_HOME": cls.cache} | ({"PATH": path} if path else {}))
        cls.started.append(process)
        return process

    @classmethod
    def seen(cls, name):
        return next((one for one in cls.grid.souk("workers", "--json").json if one["worker"] == name), None)

    def folders(self):
        return glob.glob(glob.escape(self.cache) + "/souk/*/images/*")

    def in_image(self, line, *options):
        done = self.grid.souk("run", "--image", IMAGE, *options, "--shell", line)
        self.assertEqual(done.code, 0, done)
        return done.text

    def test_a_task_has_the_images_files_and_not_the_hosts(self):
        self.assertEqual(self.in_image("cat /etc/only-here"), "of the image\n")
        self.assertEqual(self.in_image("for f in /usr/share/doc /usr/bin/python3 /etc/ld.so.cache /bait/storage.conf; do if test -e $f; then echo $f; fi; done; ls /"),
                         "\n".join(sorted(["bait", "bin", "dev", "etc", "lib", "lib64", "opt", "proc", "run", "tmp", "usr", "var", "work"])) + "\n")
        self.assertEqual(self.in_image("cat /etc/passwd"), "souk:x:1000:1000:Souk task:/work:/bin/sh\n")
        self.assertFalse(os.path.exists(os.path.join(self.store.folder, "of-the-host")))
        # Beside it the same job's other tasks, one after another in a sandbox that is kept.
        many = self.grid.souk("run", "--image", IMAGE, "--array", "1-50", "--shell", "cat /etc/only-here; echo {} > /tmp/x; cat /tmp/x; ls /work")
        self.assertEqual(many.text.count("of the image\n"), 50, many)

    def test_it_is_a_sandbox_as_any(self):
        self.assertEqual(self.in_image("for d in / /etc /opt/tools /usr /usr/lib /dev /var /run; do if touch $d/x 2>/dev/null; then echo $d; fi; done; chmod 777 /etc/only-here 2>/dev/null && echo changed; touch /tmp/x /var/tmp/y ./z && ls /tmp"), "x\ny\n")
        self.assertEqual(self.in_image("stat -c %a /opt/tools/cat; test -e /opt/pipe || echo gone; test -c /dev/null && echo null"), "755\ngone\nnull\n")
        self.assertEqual(self.in_image("cat /proc/self/status | while read -r name value; do case $name in NoNewPrivs:|Seccomp:|CapEff:) echo $name $value;; esac; done"),
                         "CapEff: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n")
        done = self.grid.souk("run", "--image", IMAGE, "--time-limit", "1s", "--grace", "100ms", "--shell", "while :; do :; done")
        self.assertEqual(done.code, 124, done)
        self.assertEqual(self.in_image("cat /etc/only-here", "--sandbox", "required"), "of the image\n")

    def test_its_environment_is_that_of_the_image(self):
        text = self.in_image("echo $GREETING; echo $PATH; test $HOME = $PWD && echo home", "--env", "MORE=1")
        self.assertEqual(text, "hello\n/opt/tools\nhome\n")
        self.assertEqual(self.in_image("echo $GREETING", "--env", "GREETING=hi"), "hi\n")
        done = self.grid.souk("run", "--image", IMAGE, "no-such-program")
        self.assertEqual(done.code, 127, done)
        self.assertIn(f"not found in PATH in image '{IMAGE}' (/opt/tools)", done.err)

    def test_other_tasks_have_the_host(self):
        done = self.grid.souk("run", "--sandbox", "required", "--require", 'name == "lab"', "--shell", "test -e /usr/share/doc && test ! -e /etc/only-here && echo host")
        self.assertEqual(done.text, "host\n", done)

    def test_a_job_that_names_another_waits_and_is_told_why(self):
        job = self.grid.submit("--image", "debian:12", "true")
        why = self.grid.souk("why", job)
        self.assertIn("no image debian:12 there", why.text)
        self.assertIn("start a worker with --image debian:12", why.text)
        self.assertEqual(self.grid.souk("cancel", job).code, 0)
        self.assertEqual(self.seen("lab")["images"], [IMAGE])
        self.assertRegex(self.grid.souk("workers", "lab").text, rf"images +{IMAGE}\n")
        self.assertEqual(self.grid.souk("run", "--require", f'attribute("image.{IMAGE}")', "--sandbox", "required", "--shell", "test -e /usr/share/doc && echo there").text, "there\n")

    def test_in_job_files(self):
        path = os.path.join(self.grid.folder, "job.toml")
        with open(path, "w") as file:
            file.write(f'[defaults]\nimage = "{IMAGE}"\n[task.a]\nrun = "cat /etc/only-here"\n[task.b]\nneeds = ["a"]\nrun = "cat /etc/only-here"\n')
        done = self.grid.souk("run", "--file", path)
        self.assertEqual((done.code, done.text), (0, "of the image\n" * 2), done)

    def test_what_makes_no_sense_is_refused(self):
        for words, why in ((("--image", IMAGE, "--sandbox", "none"), "an image is the system of a sandbox"), (("--image", "-v/:/host"), "that is no name for one"), (("--image", "a b"), "that is no name for one"),
                           (("--image", "a" * 300), "over 200 bytes")):
            done = self.grid.souk("submit", *[f"{words[0]}={words[1]}", *words[2:]], "true")
            self.assertEqual(done.code, 2 if "none" not in words else done.code, done)
            self.assertIn(why, done.err)
        for words, why in ((("--image", IMAGE, "--sandbox", "none"), "an image is the system of a sandbox"), (("--image=--all",), "that is no name for one"), (("--image-pull",), "no image is named")):
            refused = self.start("refused", *words)
            self.assertEqual(refused.wait(30), 2)
            self.assertIn(why, text_of(self.log("refused")))

    def test_what_podman_does_not_have_is_an_error_that_says_what_to_do(self):
        lacking = self.start("lacking", "--image", "localhost/not-there:1")
        self.assertEqual(lacking.wait(60), 3)
        self.assertIn("podman pull localhost/not-there:1", text_of(self.log("lacking")))
        without = os.path.join(self.grid.folder, "programs")
        os.makedirs(without)
        os.symlink(shutil.which("bwrap"), os.path.join(without, "bwrap"))
        lacking = self.start("without", "--image", IMAGE, path=without)
        self.assertEqual(lacking.wait(60), 3)
        self.assertIn("install podman", text_of(self.log("without")))

    def test_what_podman_lacks_is_fetched_where_the_owner_says_so(self):
        self.store.make("localhost/far:7", "of far away")
        with Registry(self.store, "localhost/far:7") as registry:
            name = registry.host + "/lab:7"
            lacking = self.start("puller", "--image", name)
            self.assertEqual(lacking.wait(60), 3)
            puller = self.start("puller", "--image", name, "--image-pull")
            until(lambda: self.seen("puller") or puller.poll() is not None, "the worker with the fetched image is in the market")
            self.assertIn("pulling image " + name, text_of(self.log("puller")))
            self.assertEqual(self.grid.souk("run", "--image", name, "/opt/tools/cat", "/etc/only-here").text, "of far away\n")
            puller.send_signal(signal.SIGTERM)
            puller.wait(15)
            lacking = self.start("puller", "--image", registry.host + "/lab:8", "--image-pull")
            self.assertEqual(lacking.wait(60), 3)
            self.assertIn("podman cannot pull it", text_of(self.log("puller")))

    def test_it_is_unpacked_once_and_what_nobody_uses_goes(self):
        mine = self.folders()
        self.assertEqual(len(mine), 1)
        stale = mine[0][:-8] + "00000000"
        for left in (stale, mine[0] + ".new", stale + ".new"):
            os.makedirs(left + "/usr")
        inode = os.stat(mine[0]).st_ino
        self.store.make("localhost/next:1", "of the next")
        second = self.start("second", "--image", IMAGE, "--image", "localhost/next:1")
        until(lambda: self.seen("second") or second.poll() is not None, "the second worker is in the market")
        self.assertEqual(text_of(self.log("second")).count("unpacking image"), 1, text_of(self.log("second")))
        self.assertEqual((len(self.folders()), os.stat(mine[0]).st_ino), (2, inode))
        text = [self.grid.souk("run", "--image", "localhost/next:1", "/opt/tools/cat", "/etc/only-here").text, self.in_image("cat /etc/only-here")]
        self.assertEqual(text, ["of the next\n", "of the image\n"])
        second.send_signal(signal.SIGTERM)
        second.wait(15)
        third = self.start("third", "--image", IMAGE)
        until(lambda: self.seen("third") or third.poll() is not None, "the third worker is in the market")
        self.assertEqual(self.folders(), mine, "what the second had is gone, what the first has is there")
        self.assertEqual(self.store.podman("ps", "--all", "--quiet"), "")


if __name__ == "__main__":
    if not shutil.which("podman"):
        skip("podman is not installed")
    plain = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    if not shutil.which("bwrap") or subprocess.run(plain, capture_output=True).returncode != 0:
        skip("no sandbox works here")
    probe = tempfile.mkdtemp(prefix="souk-podman-")
    try:
        Store(probe + "/store").podman("info")
    except (AssertionError, subprocess.TimeoutExpired) as failure:
        skip(f"podman does not work here: {failure}")
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    unittest.main(verbosity=2)
