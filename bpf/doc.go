// Package bpf holds the datapath: the C sources of its programs, their compiled objects, and the Go types that are generated from them.
//
// The invariant: a struct, an enum or a map's shape is written once, in types.h (with told.h) and maps.h, and everything else is generated. The package
// imports nothing of this project.
package bpf
