// Package overlay knows what hosts tell each other through etcd: the network's configuration, the record that a host keeps for its subnet,
// and which of the others' records make a peer. Keys and values are those that flannel reads and writes, so that both can share a network.
//
// The invariant: it is pure. Bytes go in, decisions come out; who reads and writes etcd is agent/lease.
package overlay
