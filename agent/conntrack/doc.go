// Package conntrack reads and writes the kernel's table of tracked connections (nf_conntrack) over ctnetlink, with their translation: what a
// connection must bring with it to be carried on by somebody else.
//
// The invariant: IPv4 entries of the default zone only, in the network namespace of the thread that opened the table. It imports nothing of
// this project.
package conntrack
