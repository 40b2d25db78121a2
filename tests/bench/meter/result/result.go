// Package result is what a meter writes and the benchmark reads.
package result

// Result is what one run measured.
type Result struct {
	Count   uint64  `json:"count"` // requests, connections, datagrams or bytes
	Seconds float64 `json:"seconds"`
	// Latencies of requests and connections, in microseconds.
	P50  float64 `json:"p50,omitempty"`
	P99  float64 `json:"p99,omitempty"`
	P999 float64 `json:"p999,omitempty"`
}
