// Package tunnel is what the kernel has for the way to other hosts: the VXLAN device or the pair of devices before the datagrams, this host's address on it, and the routes of the host's
// own traffic. The eBPF programs carry the containers'.
//
// The invariant: each call makes the kernel be as it is told to be, whatever it was before, and touches nothing that is not this project's:
// a device by its name, routes by their protocol number.
package tunnel
