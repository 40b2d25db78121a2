// Package trace says what would become of a packet. It builds the packet, has the real programs decide about it, and tells what they did.
//
// The invariant: it decides nothing that a program decides. What it adds is the kernel's part, asked of the kernel.
package trace
