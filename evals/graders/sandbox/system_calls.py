"""The system calls that confined code may not make, with their numbers on x86-64 and on ARM64 (-: it has none there)."""

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""For each machine the column of its numbers, and its name in seccomp (AUDIT_ARCH)."""


def _table(text: str) -> dict[str, tuple[int | None, int | None]]:
    entries = (entry.split() for entry in text.replace("\n", " ").split(","))
    return {
        name: (None if x86 == "-" else int(x86), None if arm == "-" else int(arm))
        for name, x86, arm in entries
    }


PROCESSES = _table(
    """
    fork 57 -, vfork 58 -, clone 56 220, execve 59 221, execveat 322 281, setsid 112 157, setpgid 109 154, unshare
    272 97, setns 308 268
    """
)
"""Processes, threads and programs."""
OTHER_PROCESSES = _table(
    """
    kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, ptrace 101 117,
    kcmp 312 272, process_vm_readv 310 270, process_vm_writev 311 271, setpriority 141 140, sched_setaffinity 203
    122, sched_setscheduler 144 119, sched_setparam 142 118, sched_setattr 314 274, ioprio_set 251 30, migrate_pages
    256 238, move_pages 279 239, pidfd_send_signal 424 424, pidfd_open 434 434, pidfd_getfd 438 438, process_madvise
    440 440, process_mrelease 448 448
    """
)
"""What reaches into other processes."""
NETWORK = _table(
    """
    socket 41 198, connect 42 203, bind 49 200, listen 50 201, io_uring_setup 425 425, io_uring_enter 426 426,
    io_uring_register 427 427
    """
)
"""The network, and the ring through which calls pass unseen."""
SHARED_MEMORY = _table(
    """
    shmget 29 194, shmat 30 196, semget 64 190, msgget 68 186, mq_open 240 180, memfd_create 319 279, add_key 248
    217, request_key 249 218, keyctl 250 219, memfd_secret 447 447
    """
)
"""Memory that outlives a process, or is not counted as its own."""
FILES = _table(
    """
    creat 85 -, truncate 76 45, rename 82 -, renameat 264 38, renameat2 316 276, mkdir 83 -, mkdirat 258 34, rmdir
    84 -, unlink 87 -, unlinkat 263 35, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, mknod 133 -,
    mknodat 259 33, chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260
    54, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88, setxattr 188 5, lsetxattr 189 6, fsetxattr 190
    7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, open_by_handle_at 304 265, name_to_handle_at
    303 264, fchmodat2 452 452, setxattrat 463 463, removexattrat 466 466
    """
)
"""Changes to files other than through an open one."""
MACHINE = _table(
    """
    mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, bpf 321 280, perf_event_open 298 241,
    userfaultfd 323 282, reboot 169 142, kexec_load 246 104, kexec_file_load 320 294, init_module 175 105,
    finit_module 313 273, delete_module 176 106, swapon 167 224, swapoff 168 225, settimeofday 164 170,
    clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266, sethostname 170 161, setdomainname 171 162, acct
    163 89, quotactl 179 60, syslog 103 116, sync 162 81, syncfs 306 267, fanotify_init 300 262, modify_ldt 154 -,
    vhangup 153 58, iopl 172 -, ioperm 173 -, personality 135 92, open_tree 428 428, move_mount 429 429, fsopen 430
    430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442, quotactl_fd 443 443
    """
)
"""Changes to the machine."""
FORBIDDEN = {**PROCESSES, **OTHER_PROCESSES, **NETWORK, **SHARED_MEMORY, **FILES, **MACHINE}

NOT_THERE = _table("clone3 435 435, openat2 437 437")
"""Answered as by a kernel that lacks them, so that libraries take the older call, which can be judged by its arguments."""

OPENING = {"open": ((2, None), 1), "openat": ((257, 56), 2)}
"""System calls, and which of their arguments are the flags."""

COMMANDS = {"fcntl": ((72, 25), (8, 10, 15)), "ioctl": ((16, 29), (0x5412, 0x8901, 0x8902))}
"""System calls whose second argument is a command, and the commands that make the kernel signal or type for someone else:
F_SETOWN, F_SETSIG, F_SETOWN_EX; TIOCSTI, FIOSETOWN, SIOCSPGRP."""

PRLIMIT = (302, 261)
