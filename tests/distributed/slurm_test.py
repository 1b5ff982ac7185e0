# SPDX-License-Identifier: Apache-2.0
"""examples/slurm/train.sbatch on a Slurm of two nodes: by srun, by mpirun, requeued."""

import json
import re
import unittest

from cluster import ADDRESSES, NAMES, ClusterTest

from forja_testing import FORJA, ROOT

# proctrack/linuxproc and task/none do without cgroups, which a container may not have. A job that
# is requeued waits as long as credentials live (cred_expire). config_overrides: cores as said here.
SLURM_CONF = """ClusterName=forja
SlurmctldHost={names[0]}({addresses[0]})
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
JobRequeue=1
KillWait=2
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/spool
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
NodeName={names[0]} NodeAddr={addresses[0]} CPUs=2
NodeName={names[1]} NodeAddr={addresses[1]} CPUs=2
PartitionName=all Nodes=ALL Default=YES
"""


class SlurmTest(ClusterTest):
    programs = ("ip", "munged", "slurmctld", "slurmd")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        config = cls.cluster / "slurm.conf"
        config.write_text(SLURM_CONF.format(names=NAMES, addresses=ADDRESSES, folder=cls.cluster))
        (cls.cluster / "mpi.conf").write_text("PMIxCliTmpDirBase=/run/slurm\n")
        cls.environment = {"SLURM_CONF": str(config), "FORJA": FORJA}
        key = cls.cluster / "munge.key"
        key.write_bytes(b"no secret: these hosts reach nothing but each other".ljust(64))
        key.chmod(0o400)
        for host in cls.hosts:
            host.succeed("mkdir", "-p", "/run/munge", "/run/slurm/state", "/run/slurm/spool")
            cls.daemon(host, "munged", "--force", f"--key-file={key}", "--log-file=/run/munge.log")
        cls.daemon(cls.hosts[0], "slurmctld")
        for host in cls.hosts:
            cls.daemon(host, "slurmd")
        nodes = ("sinfo", "--noheader", "--format=%D %t")
        cls.wait_until("both nodes are idle", lambda: cls.slurm(*nodes) == "2 idle")

    @classmethod
    def daemon(cls, host, program, *options):
        host.succeed(f"/usr/sbin/{program}", *options, environment=cls.environment)

    @classmethod
    def slurm(cls, *arguments, **options):
        options = {"environment": cls.environment, **options}
        return cls.hosts[0].succeed(*arguments, **options).out.strip()

    def submit(self, *arguments, options=(), environment=()):
        """The number of the job; its nodes have a rank each."""
        size = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--time=5", *options]
        script = ROOT / "examples/slurm/train.sbatch"
        command = ["sbatch", "--parsable", "--output=job.out", *size, script, *arguments]
        environment = {**self.environment, **dict(environment)}
        return self.slurm(*command, cwd=self.folder, environment=environment)

    def state(self, job):
        fields = self.slurm("scontrol", "--oneliner", "show", "job", job).split()
        return dict(field.split("=", 1) for field in fields if "=" in field)

    def finish(self, job, end="COMPLETED", code="0:0"):
        """Waits until the job has ended in this way."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.wait_until(f"job {job} ends", lambda: self.state(job)["JobState"] in ends, 90)
        state = self.state(job)
        self.assertEqual((state["JobState"], state["ExitCode"]), (end, code), self.output())

    def output(self):
        return (self.folder / "job.out").read_text()

    def assert_on_both_nodes(self, name, launcher):
        run = json.loads((self.folder / name / "run.json").read_text())
        self.assertEqual((run["hosts"], run["launcher"]), (list(NAMES), launcher), self.output())

    def test_by_srun(self):
        known = self.hosts[0].run(["srun", "--mpi=list"], environment=self.environment)
        if "pmix" not in (known.out + known.err).split():
            self.skipTest("this Slurm has no PMIx")
        self.finish(self.submit("run.yaml", "output=nodes"))
        self.assert_on_both_nodes("nodes", "srun")
        self.train("one_host", ranks=2)
        self.assert_same_losses(self.losses("one_host"), self.losses("nodes"))

    def test_by_mpirun(self):
        launch = {"LAUNCH": "mpirun"}
        self.finish(self.submit("run.yaml", "output=nodes", environment=launch))
        self.assert_on_both_nodes("nodes", "mpirun")

    def test_back_into_the_queue(self):
        """What the template does when the time limit is near: the run saves, and ends as if never stopped."""
        steps = ["train.steps=400", "checkpoint.every=300", "train.log_every=50"]
        job = self.submit("run.yaml", "output=nodes", *steps)
        metrics = self.folder / "nodes/metrics.jsonl"
        self.wait_until("some steps", lambda: metrics.exists() and metrics.read_text().count("\n") > 8)
        self.slurm("scancel", "--batch", "--signal=USR1", job)
        self.wait_until("it starts again", lambda: self.state(job)["Restarts"] == "1")
        self.finish(job)
        stopped = re.search(r"stopped by SIGUSR1.* after step (\d+), which is saved", self.output())
        self.assertTrue(stopped, self.output())
        self.assertRegex(self.output(), rf"restart 1: (.*\n)*continuing from .*\(step {stopped[1]}\)")
        self.assertEqual(len(self.losses("nodes")), 400)

    def test_srun_without_pmix_is_refused(self):
        """Its tasks would be runs of their own, all in one run directory."""
        command = ["srun", "--nodes=2", "--mpi=none", FORJA, "train", "run.yaml", "output=nodes"]
        result = self.hosts[0].run(command, self.folder, self.environment)
        self.assert_refused(result, "2 processes that do not find each other", "srun --mpi=pmix")
        self.assertFalse((self.folder / "nodes").exists())

    def test_a_bad_configuration_fails_the_job(self):
        self.finish(self.submit("run.yaml", "nonsense=1"), "FAILED", "2:0")
        told = [line for line in self.output().splitlines() if line.startswith("error:")]
        self.assertEqual(len(told), 1, self.output())
        self.assertIn('unknown key "nonsense"', told[0])


if __name__ == "__main__":
    unittest.main()
