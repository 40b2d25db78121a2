// Package packet holds the packet tests of the datapath: every TC program is run by the kernel (BPF_PROG_TEST_RUN) on packets that are built
// byte by byte, with real maps and with the routes and devices of a network namespace of its own. What a test says of a packet is complete:
// the verdict, every byte that comes out, the one counter that moves, and the flow table afterwards.
//
// A redirect is not carried out by such a run: where the packet would have gone stands in its flow's entry.
//
// The package has no code of its own and is imported by nobody.
package packet
