# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of a few instructions, as a firmware image or on a disk

It writes CR3 and LSTAR, counts in memory that it is alive, and begins again.
"""

import struct

COUNTER = 0x500         # where the guest counts its rounds
BIOS_SIZE = 64 * 1024
CLUSTER = 64 * 1024
SIZE = 1024 * 1024

GUEST = bytes.fromhex(
    '31c0'              # xor   ax, ax
    '8ed8'              # mov   ds, ax
    '66b9820000c0'      # mov   ecx, 0xc0000082 (LSTAR)
    '6631db'            # xor   ebx, ebx
    '6631d2'            # xor   edx, edx
                        # 1:
    '6681c300100000'    # add   ebx, 0x1000
    '0f22db'            # mov   cr3, ebx
    '6689d8'            # mov   eax, ebx
    '0f30'              # wrmsr
    '66ff060005'        # inc   dword ptr [COUNTER]
    'ebea')             # jmp   1b


def make_bios(path, guest=GUEST):
    image = bytearray(b'\xf4' * BIOS_SIZE)
    image[:len(guest)] = guest
    image[-16:-11] = bytes.fromhex('ea000000f0')    # jmp 0xf000:0
    with open(path, 'wb') as f:
        f.write(image)


def make_disk(path):
    """qcow2, which has a place for snapshots, with the guest in its boot sector.

    Its clusters: header, refcount table, refcounts, L1, L2, the boot sector.
    """
    clusters = 6
    copied = 1 << 63
    image = bytearray(clusters * CLUSTER)
    struct.pack_into('>4sIQIIQIIQQIIQ', image, 0, b'QFI\xfb', 2, 0, 0, 16,
                     SIZE, 0, 1, 3 * CLUSTER, CLUSTER, 1, 0, 0)
    struct.pack_into('>Q', image, CLUSTER, 2 * CLUSTER)
    struct.pack_into(f'>{clusters}H', image, 2 * CLUSTER, *[1] * clusters)
    struct.pack_into('>Q', image, 3 * CLUSTER, 4 * CLUSTER | copied)
    struct.pack_into('>Q', image, 4 * CLUSTER, 5 * CLUSTER | copied)
    image[5 * CLUSTER:5 * CLUSTER + 512] = GUEST.ljust(510, b'\0') + b'\x55\xaa'
    with open(path, 'wb') as f:
        f.write(image)
