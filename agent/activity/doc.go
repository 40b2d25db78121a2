// Package activity adds up who talks to whom. The kernel counts per flow, and flows come and go; a Tracker remembers what each flow had
// counted when it was looked at last, and so makes of them counters that only rise, one for each pair of ends.
//
// The invariant: nothing here runs by itself, and nothing is remembered while nobody looks (Forget). It does no input or output and imports
// bpf alone.
package activity
