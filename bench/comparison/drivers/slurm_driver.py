"""Slurm, one node: munged, slurmctld, slurmd. As root, in namespaces of its own, since its daemons listen on every address and keep to /run."""
import os
import socket
import subprocess
import time

from driver import Stage, cpu_of, drive, latencies, memory_of, timed, utilization, wait_for

HOST = socket.gethostname().split(".")[0]
CONFIGURATION = """ClusterName=compare
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters={patience}sched_min_interval=1000,batch_sched_delay=0,default_queue_depth=1000,bf_interval=1
MaxJobCount=200000
MaxArraySize=100001
MinJobAge=10
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def measure(letter, tasks, slots, stage: Stage):
    path = stage.path
    for folder in ("state", "spool"):
        os.mkdir(path(folder))
    with open(path("key"), "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(os.urandom(128))
    with open(path("slurm.conf"), "w") as file:
        # `defer` looks at many jobs at a time; one job alone would wait for that.
        file.write(CONFIGURATION.format(host=HOST, folder=stage.folder, slots=max(1, slots), patience="" if letter == "D" else "defer,"))
    os.environ["SLURM_CONF"] = path("slurm.conf")
    stage.start(["munged", "--force", "-F", f"--key-file={path('key')}", f"--socket={path('munge.socket')}", f"--pid-file={path('munge.pid')}", f"--log-file={path('munge.log')}",
                 f"--seed-file={path('munge.seed')}"])
    wait_for(lambda: os.path.exists(path("munge.socket")), "munged is there")
    controller = stage.start(["slurmctld", "-D", "-f", path("slurm.conf")])
    if letter != "E":
        stage.start(["slurmd", "-D", "-f", path("slurm.conf"), "-N", HOST])

    def state():
        said = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout.strip()
        return said.startswith("idle") if letter != "E" else bool(said)
    wait_for(state, "Slurm's node is idle", 30, 0.2)

    with open(path("job"), "w") as file:
        file.write("#!/bin/sh\nexec " + ("sleep 0.05" if letter == "B" else "/bin/true") + "\n")
    submit = ["sbatch", "-n1", "-o", "/dev/null"]
    if letter == "D":
        return latencies([timed(lambda: stage.run(["srun", "-n1", "/bin/true"])) for _ in range(tasks)])
    if letter == "E":
        before = memory_of(controller.pid)
        single = [timed(lambda: stage.run([*submit, path("job")])) for _ in range(tasks)]
        each = (memory_of(controller.pid) - before) / tasks
        array = timed(lambda: stage.run([*submit, "--array=0-9999", path("job")]))
        return {"tasks_per_s": tasks / sum(single), "bytes_per_task": each, "array_ms": array * 1e3, "single_ms": sorted(single)[tasks // 2] * 1e3}
    before, start = cpu_of(controller.pid), time.monotonic()
    stage.run([*submit, f"--array=0-{tasks - 1}", path("job")])
    wait_for(lambda: not subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True).stdout.strip(), f"Slurm ends {tasks} tasks", 90, 0.1)
    took = time.monotonic() - start
    found = {"cpu_us_per_task": (cpu_of(controller.pid) - before) / tasks * 1e6}
    return {**found, "tasks_per_s": tasks / took} if letter == "A" else {**found, "utilization": utilization(tasks, slots, took)}


drive(measure)
