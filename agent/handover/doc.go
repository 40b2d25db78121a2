// Package handover turns connections that the kernel tracks into flows of the datapath, and flows into tracked connections, each with the
// translation it has: so that attaching and detaching over Docker's rules cuts nobody off.
//
// The invariant: it decides about one connection at a time from what it is told, and changes nothing outside itself but through the Kernel
// that it is given. What it cannot take over whole it leaves where it is.
package handover
