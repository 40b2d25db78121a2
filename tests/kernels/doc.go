// Command kernels boots distribution kernels in small virtual machines and runs the datapath in each: `go run ./tests/kernels [KERNEL...]`,
// or `make kernels`.
//
// A kernel comes from Debian's archive, is unpacked into a cache folder beside the module and nowhere else, and is started by qemu with an
// initramfs that holds the modules it needs, the product and the tests; command guest is its init. What happened there comes back as lines
// (package step) over a serial line of its own. qemu's exit status says nothing; a machine that does not say RC=0 has failed.
//
// The processor is emulated, because a machine that offers KVM may still be unable to start a distribution's kernel with it. It is slow:
// limits of time are there to end what hangs, not to judge speed.
//
// The invariant: the machine that this runs on is not changed. apt works on folders of its own.
//
//go:generate go run . -doc
package main
