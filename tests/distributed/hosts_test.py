# SPDX-License-Identifier: Apache-2.0
"""mpirun over two hosts, as on a cluster without a scheduler: SSH starts the ranks."""

import json
import shutil
import subprocess
import time
import unittest

from cluster import ADDRESSES, HOST_ENVIRONMENT, NAMES, ClusterTest

from forja_testing import FORJA

SSHD_CONFIG = """ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
"""
SSH = """#!/bin/sh
exec ssh -F none -i {folder}/user_key -o BatchMode=yes -o LogLevel=ERROR \\
  -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "$@"
"""


class HostsTest(ClusterTest):
    programs = ("ip", "sshd")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder, node2 = cls.cluster, cls.hosts[1]
        for key in ("host_key", "user_key"):
            node2.succeed("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
        (folder / "sshd_config").write_text(
            SSHD_CONFIG.format(address=ADDRESSES[1], folder=folder)
        )
        (folder / "ssh.sh").write_text(SSH.format(folder=folder))
        (folder / "ssh.sh").chmod(0o755)
        node2.succeed("mkdir", "/run/sshd")  # without systemd nobody else makes it
        node2.succeed("/usr/sbin/sshd", "-f", folder / "sshd_config", "-E", folder / "sshd.log")

    def launch(self, *arguments):
        """`forja train` with a rank on each host, to be started from the first one."""
        launcher = ["mpirun", "--host", ",".join(f"{name}:1" for name in NAMES), "-n", "2"]
        launcher += ["--mca", "plm_rsh_agent", self.cluster / "ssh.sh"]
        return [*launcher, FORJA, "train", "run.yaml", *arguments]

    def mpirun(self, *arguments):
        return self.hosts[0].run(self.launch(*arguments), self.folder)

    def mount_on_node2(self, source, target):
        node2, place = self.hosts[1], self.folder / target
        node2.succeed("mount", "--bind", self.folder / source, place)
        self.addCleanup(node2.succeed, "umount", place)

    def test_a_rank_on_each_host(self):
        result = self.mpirun("output=two_hosts")
        self.assertEqual(result.code, 0, result)
        self.assertIn("dp 2", result.err)
        run = json.loads((self.folder / "two_hosts/run.json").read_text())
        self.assertEqual((run["hosts"], run["launcher"]), (list(NAMES), "mpirun"))
        self.train("one_host", ranks=2)
        self.assert_same_losses(self.losses("one_host"), self.losses("two_hosts"))

    def test_the_hosts_see_other_data(self):
        separator = ["--document-separator", "quick"]
        arguments = ["text.txt", "--tokenizer=tokenizer.json", "--out=other", *separator]
        self.succeed("tokenize", *arguments)
        self.mount_on_node2("other", "data")
        self.assert_refused(self.mpirun("output=run"), "the ranks do not have the same data")
        self.assertFalse((self.folder / "run").exists(), "ends before the first step")

    def test_the_hosts_see_another_configuration(self):
        self.write_config("other.yaml", train={"seed": 5})
        self.mount_on_node2("other.yaml", "run.yaml")
        result = self.mpirun("output=run")
        self.assert_refused(result, "the ranks do not have the same configuration")
        self.assertFalse((self.folder / "run").exists(), "ends before the first step")

    def test_the_hosts_see_another_checkpoint(self):
        self.train("run", ranks=2)
        shutil.copytree(self.folder / "run", self.folder / "older")
        shutil.rmtree(self.checkpoint("older", 8))
        self.mount_on_node2("older", "run")
        before = self.files()
        result = self.mpirun("output=run", "train.steps=12")
        self.assert_refused(result, "the ranks do not have the same newest checkpoint in", "run")
        self.assertEqual(self.files(), before, "nothing is written")

    def test_a_cable_that_is_cut(self):
        """The watchdog tells and ends what it reaches; mpirun alone would wait for many minutes."""
        endless = ["train.steps=999999", "checkpoint.every=0", "eval.every=0"]
        launch = self.launch("output=run", *endless, "train.hang_timeout_minutes=0.1")
        log, errors = self.folder / "run/metrics.jsonl", self.folder / "errors.txt"
        # A file: mpirun's ssh, which it leaves behind, holds a pipe open.
        with errors.open("w") as stderr:
            run = subprocess.Popen(
                self.hosts[0].command(launch, self.folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=HOST_ENVIRONMENT,
            )
        self.addCleanup(run.kill)
        self.wait_until("some steps", lambda: log.exists() and log.read_text().count("\n") > 5)
        self.hosts[1].succeed("ip", "link", "set", "eth0", "down")
        self.addCleanup(self.hosts[1].succeed, "ip", "link", "set", "eth0", "up")
        self.assertNotEqual(run.wait(timeout=60), 0)
        self.assertRegex(
            errors.read_text(), rf"rank 1 on host {NAMES[1]}: no sign of life for \d+ s"
        )

    def test_the_run_directory_is_not_shared(self):
        for folder in ("run", "private"):
            (self.folder / folder).mkdir()
        self.mount_on_node2("private", "run")
        result = self.mpirun(f"output={self.folder / 'run'}")
        words = ["host node2 (rank 1) does not see", "run/run.json as host node1 has written it"]
        self.assert_refused(result, *words, "give another output")
        self.assertEqual(self.files("private"), [])
        self.assertFalse((self.folder / "run/metrics.jsonl").exists(), "no step was done")


if __name__ == "__main__":
    unittest.main()
