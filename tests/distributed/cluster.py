# SPDX-License-Identifier: Apache-2.0
"""Two hosts in one: each has its own network, host name, processes, /run and mounts.

Needs root and the packages that PACKAGES names. A host is a shell in new namespaces, waiting for
the end of its standard input. When the test ends, however it ends, so does the shell, and with it
every process, mount and network device of the host: no daemon is left behind.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "end_to_end"))

from forja_testing import ENVIRONMENT, TIMEOUT_S, ForjaTest, Result, children, is_root

PACKAGES = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "munged": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
}
NAMES = ("node1", "node2")
ADDRESSES = ("10.99.0.1", "10.99.0.2")
# Open MPI's files of a run go where they end with the host.
HOST_ENVIRONMENT = {**ENVIRONMENT, "OMPI_MCA_orte_tmpdir_base": "/run"}

# /run is where daemons keep sockets and process ids, and here also their state and logs.
HOST = """set -e
hostname "$0"
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$1" /etc/hosts
ip link set lo up
echo ready
read -r _"""


class Host:
    def __init__(self, name, hosts_file):
        self.name = name
        self.shell = subprocess.Popen(
            ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--net"]
            + ["--uts", "--ipc", "bash", "-c", HOST, name, str(hosts_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=HOST_ENVIRONMENT,
        )
        if self.shell.stdout.readline() != b"ready\n":
            why = self.shell.stderr.read().decode().strip()
            self.stop()
            raise unittest.SkipTest(f"namespaces are not permitted here: {why}")
        self.pid = children(self.shell.pid)[0]

    def command(self, arguments, cwd):
        """A command line that runs there. It changes folders there too: mounts differ."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net"]
        change = ["--pid", "sh", "-c", 'cd "$0" && exec "$@"', str(cwd)]
        return [*enter, *change, *(str(a) for a in arguments)]

    def run(self, arguments, cwd="/", environment=(), timeout=TIMEOUT_S):
        done = subprocess.run(
            self.command(arguments, cwd),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**HOST_ENVIRONMENT, **dict(environment)},
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def succeed(self, *arguments, **options):
        result = self.run(arguments, **options)
        if result.code != 0:
            raise RuntimeError(f"{self.name}: {arguments}: {result}")
        return result

    def stop(self):
        for pipe in (self.shell.stdin, self.shell.stdout, self.shell.stderr):
            pipe.close()
        self.shell.wait()


class ClusterTest(ForjaTest):
    """Two hosts that reach each other; the files are the same ones on both."""

    programs = ("ip",)

    @classmethod
    def setUpClass(cls):
        cls.skip_where_impossible()
        super().setUpClass()
        cls.cluster = Path(tempfile.mkdtemp(prefix="forja-cluster-"))
        cls.addClassCleanup(shutil.rmtree, cls.cluster, ignore_errors=True)
        hosts_file = cls.cluster / "hosts"
        lines = [f"{address} {name}\n" for name, address in zip(NAMES, ADDRESSES)]
        hosts_file.write_text("".join(["127.0.0.1 localhost\n", *lines]))
        cls.hosts = []
        for name in NAMES:
            cls.hosts.append(Host(name, hosts_file))
            cls.addClassCleanup(cls.hosts[-1].stop)
        cls.connect()

    @classmethod
    def skip_where_impossible(cls):
        if not is_root():
            raise unittest.SkipTest("hosts of their own need root")
        path = os.pathsep.join((ENVIRONMENT.get("PATH", ""), "/usr/sbin", "/sbin"))
        missing = {PACKAGES[p] for p in cls.programs if not shutil.which(p, path=path)}
        if missing:
            raise unittest.SkipTest(f"not installed: {' '.join(sorted(missing))}")

    @classmethod
    def connect(cls):
        """A cable, each end made inside its host."""
        ends = [["eth0", "netns", str(host.pid)] for host in cls.hosts]
        made = ["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]]
        made = subprocess.run(made, capture_output=True, check=False)
        if made.returncode != 0:
            raise unittest.SkipTest(f"no cable can be made here: {made.stderr.decode().strip()}")
        for host, address in zip(cls.hosts, ADDRESSES):
            host.succeed("ip", "address", "add", f"{address}/24", "dev", "eth0")
            host.succeed("ip", "link", "set", "eth0", "up")
        for host in cls.hosts:  # the kernel takes a moment
            cls.wait_until("the cable is connected", lambda h=host: cls.is_connected(h))

    @staticmethod
    def is_connected(host):
        return "state UP" in host.succeed("ip", "-oneline", "link", "show", "eth0").out

    @classmethod
    def wait_until(cls, what, condition, limit_s=30):
        """Fails with the logs of the cluster."""
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
                logs = [f"{f}:\n{f.read_text()}" for f in sorted(cls.cluster.glob("*.log"))]
                raise RuntimeError(f"waited too long until {what}\n" + "\n".join(logs))
            time.sleep(0.05)

    def assert_same_losses(self, expected, found):
        self.assertEqual(len(expected), len(found))
        for step, (a, b) in enumerate(zip(expected, found), 1):
            self.assertLessEqual(abs(a - b), 1e-5 * a, f"step {step}: {a} and {b}")
