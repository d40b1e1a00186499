"""The table of attempts. That a worker can do none of it is tested from inside one."""

from __future__ import annotations

import errno
import json
from functools import partial

from collector.sandbox.attempts import ATTEMPTS
from tests.support import programs

script = partial(programs.script, fails=True)
FAMILIES = ("files", "network", "processes", "memory", "kernel")
REFUSED = {errno.EPERM, errno.EACCES, errno.ENOSYS}
PRIVILEGED = {
    *("acct", "bpf", "delete_module", "fanotify_init", "finit_module", "fsmount", "fsopen"),
    *("init_module", "ioperm", "iopl", "kexec_load", "memfd_secret", "mount", "mount_setattr"),
    *("move_mount", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root", "quotactl"),
    *("reboot", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setgroups", "sethostname", "swapon"),
    *("settimeofday", "syslog", "umount2", "userfaultfd", "chroot", "unshare", "setns"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "request_key", "keyctl"),
    *("clone", "kcmp", "process_madvise", "process_vm_readv", "process_vm_writev"),
}
"""Calls that a kernel, or a container, may refuse without our help."""


def test_all_families_are_tried() -> None:
    assert {each.family for each in ATTEMPTS} == set(FAMILIES)


def test_attempts_succeed_without_a_sandbox() -> None:
    """Else it would prove nothing that they fail with one. No descriptor or process is left."""
    done = script(
        """
        import json, os
        from collector.sandbox.attempts import ATTEMPTS
        before = set(os.listdir("/proc/self/fd"))
        refused = [(each.call, each.what) for each in ATTEMPTS if each.is_refused()]
        assert set(os.listdir("/proc/self/fd")) == before
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            print(json.dumps(refused))
        """
    )
    assert done.returncode == 0, done.stderr
    refused = {call for call, _ in json.loads(done.stdout)}
    assert {"openat", "connect", "sendto", "sendmsg", "execve", "mmap"}.isdisjoint(refused)
    ordinary = {each.call for each in ATTEMPTS} - PRIVILEGED
    assert refused & ordinary <= {"socket", "kill", "tkill", "tgkill", "openat"}
