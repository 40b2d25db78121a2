// Package overlay tests containers of several hosts: namespaces as hosts on one segment, each with a dockerd and an agent of its own, and an
// etcd. The ids are those of the overlay's contract.
package overlay
