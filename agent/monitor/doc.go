// Package monitor hands what the datapath tells about packets to everybody who looks.
//
// The invariant: while nobody looks the datapath is told to tell nothing, however the last one has gone. It knows neither containers nor
// requests: that is the agent's.
package monitor
