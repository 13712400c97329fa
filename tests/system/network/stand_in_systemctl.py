#!/usr/bin/python3
"""What systemd does with the units that Souk writes, for a machine of a test, where none runs: `systemctl enable [--now] NAME...`, `disable --now`,
`start`, `restart` and `stop NAME...`, `daemon-reload`.

Lies in FOLDER/bin as `systemctl`; process ids and logs are in FOLDER/units/HOST. A setting that it does not know is an error, so that none is taken for granted."""
import ctypes
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import sys
import time

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "units", socket.gethostname())
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # in which systemd looks for a program that is named without a folder
LEFT_OUT = {"Description", "After", "Wants", "Conflicts", "Restart", "RestartSec", "WantedBy", "Delegate", "KillMode", "TimeoutStopSec"}  # when and how often, not how
LEFT_OUT |= {"CapabilityBoundingSet", "LockPersonality", "PrivateDevices", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
             "ProtectKernelTunables", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures"}  # what is taken away
KNOWN = {"User", "ExecStart", "ExecStartPre", "LoadCredential", "StateDirectory", "LimitNOFILE", "NoNewPrivileges", "UMask"}


def read(path):
    found = {}
    with open(path) as file:
        for line in file:
            line = line.rstrip("\n")
            if not line or line[0] in "#[":
                continue
            name, value = line.split("=", 1)
            if name not in KNOWN | LEFT_OUT:
                sys.exit(f"{path}: this stand-in does not know {name}=")
            found.setdefault(name, []).append(value)
    return found


def words(line, environment):
    """systemd.service(5), as far as our units go: every word in quotes, `%%`, `$$` and `${NAME}`."""
    quoted = r'"((?:[^"\\]|\\.)*)"|(\S+)'
    all_words = [match.group(1) if match.group(1) is not None else match.group(2) for match in re.finditer(quoted, line)]

    def plain(word):
        word = re.sub(r"\\(.)", r"\1", word).replace("%%", "%")
        return re.sub(r"\$\$|\$\{(\w+)\}", lambda match: "$" if match.group(0) == "$$" else environment[match.group(1)], word)
    return [plain(word) for word in all_words]


def become(unit, name, log):
    """In the child: all that comes before the program."""
    user = pwd.getpwnam(unit.get("User", ["root"])[0])
    environment = {"PATH": PATH, "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell or "/bin/sh"}
    if "LoadCredential" in unit:
        place = f"/run/credentials/{name}"
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
        for line in unit["LoadCredential"]:
            what, source = line.split(":", 1)
            shutil.copyfile(source.replace("%%", "%"), os.path.join(place, what))
            os.chmod(os.path.join(place, what), 0o400)
            os.chown(os.path.join(place, what), user.pw_uid, user.pw_gid)
        os.chmod(place, 0o500)
        os.chown(place, user.pw_uid, user.pw_gid)
        environment["CREDENTIALS_DIRECTORY"] = place
    for folder in unit.get("StateDirectory", []):
        os.makedirs("/var/lib/" + folder, 0o755, exist_ok=True)
        os.chown("/var/lib/" + folder, user.pw_uid, user.pw_gid)
    for limit in unit.get("LimitNOFILE", []):
        wanted = min(int(limit), resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # in a container not even root may raise it
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    os.setsid()
    os.chdir("/")
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1), os.dup2(out, 2)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid), os.setuid(user.pw_uid)
    os.umask(int(unit.get("UMask", ["0022"])[0], 8))
    if unit.get("NoNewPrivileges") == ["true"] and ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) != 0:
        raise OSError("no_new_privs")
    return environment


def start(name):
    path = os.path.join("/etc/systemd/system", name)
    if os.stat(path).st_uid != 0:
        sys.exit(f"{path} is not root's: whoever it belongs to would be root")
    unit = read(path)
    log = os.path.join(FOLDER, name + ".log")
    child = os.fork()
    if child:
        with open(os.path.join(FOLDER, name + ".pid"), "w") as file:
            file.write(str(child))
        return
    try:
        environment = become(unit, name, log)
        for line in unit.get("ExecStartPre", []):
            before = words(line, environment)
            if os.spawnve(os.P_WAIT, before[0], before, environment) != 0:
                raise OSError(f"ExecStartPre={line} failed")
        command = words(unit["ExecStart"][0], environment)
        os.execve(shutil.which(command[0], path=PATH) or command[0], command, environment)
    except BaseException as error:
        print(f"systemctl: {name}: {error}", file=sys.stderr, flush=True)
    os._exit(203)


def stop(name):
    try:
        with open(os.path.join(FOLDER, name + ".pid")) as file:
            pid = int(file.read())
        os.kill(pid, signal.SIGTERM)
        while True:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
            time.sleep(0.02)
    except (FileNotFoundError, ProcessLookupError):
        pass


def main(verb, *names):
    os.makedirs(FOLDER, exist_ok=True)
    if verb == "daemon-reload" and not names:
        return
    if verb in ("enable", "disable") and names[0] == "--now":
        verb, names = {"enable": "start", "disable": "stop"}[verb], names[1:]
    for name in names:
        name = name if name.endswith(".service") else name + ".service"
        if verb == "enable":
            read(os.path.join("/etc/systemd/system", name))
            continue
        if verb not in ("start", "stop", "restart"):
            sys.exit(f"this stand-in knows no `{verb}`")
        if verb != "start":
            stop(name)
        if verb != "stop":
            start(name)


main(*sys.argv[1:])
