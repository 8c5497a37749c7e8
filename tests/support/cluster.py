"""A SLURM cluster of two nodes on this machine, for tests: the real programs, in a folder."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
CONF = """ClusterName=two
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
SchedulerParameters=sched_interval=2,bf_interval=2
InactiveLimit=0
KillWait=20
MinJobAge=3600
NodeName=one NodeHostname={host} Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=two NodeHostname={host} Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=all Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Return which programs of SLURM are not here."""
    return [name for name in PROGRAMS if which(name) is None]


def which(name):
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}


class Cluster:
    """Two nodes with one core each; ``run`` runs SLURM's commands.

    Args:
        folder: Where everything of it lies, and jobs run.
        programs: The folder of ``nets-deap`` and ``python``.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self._programs = folder, []
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parent.parent.parent),
        }

    def __enter__(self):
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        (self.folder / "slurm.conf").write_text(
            CONF.format(host=socket.gethostname(), folder=self.folder, ports=_free_ports(3))
        )
        at = self.folder
        files = [f"--{n}-file={at}/munge.{n}" for n in ("key", "log", "pid", "seed")]
        try:
            self._start("munged", "--foreground", "--force", f"--socket={at}/munge.socket", *files)
            _wait(lambda: (at / "munge.socket").exists(), "munged")
            self._start("slurmctld", "-D", "-i")
            for node in ("one", "two"):
                self._start("slurmd", "-D", "-N", node)
            _wait(lambda: self.run("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"], "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for program in reversed(self._programs):
            program.terminate()
        for program in reversed(self._programs):
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()

    def run(self, *command):
        """Return what a command of SLURM prints."""
        done = subprocess.run(
            [which(command[0]), *map(str, command[1:])],
            env=self.environment, capture_output=True, text=True, check=False, cwd=self.folder,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def wait(self, job, seconds):
        """Wait until all parts of a job are over."""
        _wait(lambda: set(self.parts(job).values()) <= OVER, f"job {job}", seconds)

    def parts(self, job):
        """Return the state of each part of a job."""
        found = self.run("squeue", "-h", "-j", job, "-t", "all", "-r", "-o", "%A %T")
        return dict(line.split() for line in found.splitlines())

    def restarts(self, part):
        """Return how often a part of a job has queued again."""
        shown = self.run("scontrol", "-o", "show", "job", part)
        return int(shown.partition("Restarts=")[2].split()[0])

    def start_soon(self, part):
        """Let a part that queues again start in ten seconds, not two minutes, and run on."""
        try:
            self.run("scontrol", "update", f"JobId={part}", "StartTime=now+10", "TimeLimit=30")
        except RuntimeError as error:
            if "no longer pending" not in str(error):
                raise

    def _start(self, name, *arguments):
        """Start one of the programs that stay."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self._programs.append(
                subprocess.Popen(
                    [which(name), *arguments],
                    env=self.environment,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            )


def _free_ports(n):
    """Return ports that are free."""
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait(done, what, seconds=30.0):
    """Wait for something."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} takes longer than {seconds:g} s")
        time.sleep(0.2)
