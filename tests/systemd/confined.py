#!/usr/bin/env python3
"""Runs the command of a systemd unit as the unit says, where no systemd runs: the unit's variables, user, directories, limits, capabilities,
system calls and address families, and a file system that is read only but for its directories. Needs root.

    tests/systemd/confined.py UNIT [--set NAME=VALUE ...] [--user UID:GID] [--directories DIR] [--socket UNIT]
        [--strict] [-- COMMAND ...]

The command is the unit's ExecStart, unless another is given. `--set` adds a variable; `--directories` is the place of /var/lib and /run; `--socket`
is a unit of sockets that are opened and handed over;
SupplementaryGroups= takes numbers here. `--strict` ends a process by SIGSYS where systemd would have its system call fail. Not done is what takes systemd itself: ProtectProc,
PrivateDevices, PrivateUsers, RestrictSUIDSGID, the watchdog's kill. The process that is started keeps this one's id.
"""

import argparse
import ctypes
import errno
import os
import pwd
import re
import resource
import shlex
import socket
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
# linux/prctl.h, linux/sched.h, sys/mount.h
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CAPABILITIES_MAX = 64
CLONE_NEWNS = 0x20000
# NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
NAMESPACES = 0x80 | 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PROT_WRITE, PROT_EXEC = 2, 4
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_PACKET": 17}


class Unit:
    """The settings of a unit's file."""

    def __init__(self, path):
        self.values = {}
        section = None
        with open(path, encoding="utf-8") as file:
            # A line that ends with a backslash goes on.
            text = file.read().replace("\\\n", " ")
        for line in text.splitlines():
            line = line.strip()
            if line.startswith("["):
                section = line.strip("[]")
            elif line and line[0] not in "#;":
                key, value = line.split("=", 1)
                values = self.values.setdefault((section, key.strip()), [])
                # An empty value takes back what was said before.
                values[:] = [*values, value.strip()] if value.strip() else []

    def all(self, key, section="Service"):
        return self.values.get((section, key), [])

    def one(self, key, default=None):
        values = self.all(key)
        return values[-1] if values else default

    def is_on(self, key):
        return self.one(key) in ("yes", "true", "on", "1")

    def seconds(self, key):
        """Of a time that is a number of seconds."""
        return int(self.one(key))

    def variables(self):
        """What Environment= and EnvironmentFile= set."""
        found = {}
        for words in self.all("Environment"):
            found.update(word.split("=", 1) for word in shlex.split(words))
        for path in self.all("EnvironmentFile"):
            try:
                with open(path.removeprefix("-"), encoding="utf-8") as file:
                    lines = [line.strip() for line in file]
            except FileNotFoundError:
                if not path.startswith("-"):
                    raise
                continue
            for line in lines:
                if line and line[0] not in "#;":
                    name, value = line.split("=", 1)
                    found[name] = " ".join(shlex.split(value))
        return found

    def system_calls(self):
        """Those that SystemCallFilter= lets through."""
        allowed = set()
        for line in self.all("SystemCallFilter"):
            names = {name for word in line.removeprefix("~").split() for name in expanded(word)}
            allowed = allowed - names if line.startswith("~") else allowed | names
        return allowed


def expanded(name):
    """A system call, or those of a group, as this machine's systemd knows it."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in text.splitlines()[1:]]
    return {call for word in words if word and word[0] != "#" for call in expanded(word)}


def checked(outcome, what):
    if outcome != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


# -- The file system --


def mount(source, target, flags):
    checked(LIBC.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None), f"mount {target}")


def protect_file_system(writable):
    """Everything is read only, but for these directories and what the kernel makes up."""
    checked(LIBC.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", MS_REC | MS_PRIVATE)
    for directory in writable:
        mount(directory, directory, MS_BIND)
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split()[1].encode().decode("unicode_escape") for line in file]
    for point in points:
        if point not in writable and not re.match(r"/(proc|sys|dev)(/|$)", point):
            mount("none", point, MS_BIND | MS_REMOUNT | MS_RDONLY)


# -- System calls --


class Compared(ctypes.Structure):
    """scmp_arg_cmp of seccomp.h."""

    _fields_ = [("argument", ctypes.c_uint), ("operation", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


EQUAL, MASKED_EQUAL = 4, 7
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


def filter_system_calls(unit, strict):
    """Lets through what the unit does. Some only with some arguments: whole lists of (argument, operation, a, b), of which one must hold."""
    masked = lambda argument, mask, values: [(argument, MASKED_EQUAL, mask, value) for value in values]
    conditions = {}
    if unit.is_on("MemoryDenyWriteExecute"):
        both = PROT_WRITE | PROT_EXEC
        conditions["mmap"] = masked(2, both, [0, PROT_WRITE, PROT_EXEC])
        for name in ("mprotect", "pkey_mprotect"):
            conditions[name] = masked(2, PROT_EXEC, [0])
    if unit.is_on("RestrictNamespaces"):
        for name in ("clone", "unshare"):
            conditions[name] = masked(0, NAMESPACES, [0])
    if families := unit.one("RestrictAddressFamilies"):
        conditions["socket"] = [(0, EQUAL, FAMILIES[family], 0) for family in families.split()]
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(KILL_PROCESS if strict else ERRNO | errno.EPERM))

    def rule(action, name, comparisons=()):
        number = library.seccomp_syscall_resolve_name(name.encode())
        # Those of other machines are unknown, or have pseudo numbers.
        if number < 0:
            return
        array = (Compared * len(comparisons))(*comparisons)
        refused = library.seccomp_rule_add_array(context, action, number, len(comparisons), array)
        if refused:
            raise OSError(-refused, f"a rule for {name}")

    for name in unit.system_calls():
        # What clone3 is asked for is not among its arguments, so systemd has the C library fall back to clone.
        if name == "clone3" and unit.is_on("RestrictNamespaces"):
            rule(ERRNO | errno.ENOSYS, name)
            continue
        for comparison in conditions.get(name, [None]):
            rule(ALLOW, name, [comparison] if comparison else [])
    refused = library.seccomp_load(context)
    if refused:
        raise OSError(-refused, "the filter of system calls")


# -- Everything --


def directories(unit, place, user, group):
    """Makes StateDirectory= and RuntimeDirectory=. Returns the variables that name them."""
    named = {}
    for key, parent in (("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")):
        if name := unit.one(key):
            path = os.path.join(place + parent, name)
            os.makedirs(path, exist_ok=True)
            os.chown(path, user, group)
            os.chmod(path, int(unit.one(f"{key}Mode", "0755"), 8))
            named[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).upper()] = path
    return named


def sockets(unit):
    """Opens the stream sockets of a socket unit, from descriptor 3 on. Returns the variables that say so (sd_listen_fds(3))."""
    number = 3
    for number, words in enumerate(unit.all("ListenStream", "Socket"), 3):
        host, _, port = words.rpartition(":")
        listener = socket.socket(socket.AF_INET if host else socket.AF_INET6)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host or "::", int(port)))
        listener.listen(int(unit.all("Backlog", "Socket")[-1]))
        os.dup2(listener.detach(), number)
        # Where it was there already, nothing was copied.
        os.set_inheritable(number, True)
    names = ":".join(unit.all("FileDescriptorName", "Socket") * (number - 2))
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(number - 2), "LISTEN_FDNAMES": names}


def confine(unit, user, group, writable, strict):
    if unit.one("ProtectSystem") == "strict":
        protect_file_system(writable)
    files = int(unit.one("LimitNOFILE"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    except ValueError:
        # Not even root may, without CAP_SYS_RESOURCE: what is left is the most that there is.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if unit.one("CapabilityBoundingSet") is None:
        for capability in range(CAPABILITIES_MAX):
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.umask(int(unit.one("UMask", "0022"), 8))
    # The capabilities of root go with its id.
    os.setgroups([int(number) for words in unit.all("SupplementaryGroups") for number in words.split()])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    if unit.is_on("NoNewPrivileges"):
        checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    filter_system_calls(unit, strict)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("unit")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--user")
    parser.add_argument("--directories", default="")
    parser.add_argument("--socket")
    parser.add_argument("--strict", action="store_true")
    separator = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    asked, command = parser.parse_args(sys.argv[1:separator]), sys.argv[separator + 1 :]
    unit = Unit(asked.unit)
    if asked.user:
        user, group = map(int, asked.user.split(":"))
    else:
        account = pwd.getpwnam(unit.one("User"))
        user, group = account.pw_uid, account.pw_gid
    named = directories(unit, asked.directories, user, group)
    environment = {"PATH": os.defpath, **named, **unit.variables(), **dict(words.split("=", 1) for words in asked.set)}
    if asked.socket:
        environment.update(sockets(Unit(asked.socket)))
    command = command or shlex.split(unit.one("ExecStart"))
    confine(unit, user, group, list(named.values()), asked.strict)
    os.chdir("/")
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
