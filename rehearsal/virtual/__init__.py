"""Virtual machines, with a kernel of their own: a rehearsal's AMI on a disk, under QEMU's software emulation."""
