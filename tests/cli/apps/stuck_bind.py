"""Binds its port with an address nobody can read: the page it is on never comes, userfaultfd(2)."""

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys

USERFAULTFD = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
UFFD_API, UFFDIO_API, UFFDIO_REGISTER, MISSING = 0xAA, 0xC018AA3F, 0xC020AA00, 1

libc = ctypes.CDLL(None, use_errno=True)
keeper = libc.syscall(USERFAULTFD, os.O_CLOEXEC)
if keeper < 0:
    sys.exit(f"userfaultfd: {os.strerror(ctypes.get_errno())}")
fcntl.ioctl(keeper, UFFDIO_API, struct.pack("QQQ", UFFD_API, 0, 0))
page = mmap.mmap(-1, mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
fcntl.ioctl(keeper, UFFDIO_REGISTER, struct.pack("QQQQ", address, mmap.PAGESIZE, MISSING, 0))
print("binding", flush=True)
libc.bind(socket.socket().fileno(), ctypes.c_void_p(address), 16)
