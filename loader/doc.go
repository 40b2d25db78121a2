// Package loader turns the compiled datapath into running programs: it finds out what the kernel offers, loads the programs with their
// pinned maps, attaches them to devices and to the host's sockets, replaces them while packets flow, and takes them away without a trace.
//
//	f, err := loader.Probe()
//	d, err := loader.Load(loader.PathsFor("default"), f, loader.DefaultSettings())
//	err = d.AttachBridge(ifindex)
//
// The invariant: a hook holds at most one program of an instance. A program is replaced in one step, and the other kind of attachment, if
// the hook had it, is taken away after the new one stands.
//
// What bites: devices are those of the calling thread's network namespace, so a caller outside the host's must lock its thread and enter
// first. What is pinned outlives the process; Close ends nothing but this process's own references.
//
// The package decides nothing about what is attached where. It imports bpf and maps of this project, and nothing above them.
package loader
