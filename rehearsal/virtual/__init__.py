"""Machines with a kernel of their own: an image of a container machine, on a disk, under QEMU's software emulation."""
