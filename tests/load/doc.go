// Package load shows that masquerade holds tens of thousands of connections at once: all of them are open at the same time, and each gets its
// own answers. `go test` runs a part of the size; `make load` the whole.
package load
