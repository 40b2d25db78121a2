// Package offload keeps the flow table in step with the kernel's connection tracking for bridges where the host's own rules decide about every
// flow: what the kernel has established is entered with the kernel's translation, and what the kernel forgets is taken out.
//
// The invariant: an entry that it makes carries nothing by itself. Whether the rules let a flow's packets through is seen by the programs, packet
// by packet, so to be late, to miss an event or to be away costs speed and lets nothing pass. It imports neither package agent nor loader.
package offload
