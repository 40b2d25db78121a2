// Package lease makes a host a member of a network that is kept in etcd: it holds the host's subnet there, under a lease, and follows the
// other hosts' records. What the bytes mean is for policy/overlay to say.
//
// The invariant: the datapath never waits for etcd. What was learnt last stands in a file and in the View, and stays there while etcd is
// away, is restarted, wiped or rolled back; when it answers again, the host's record is put back as it was.
//
// It must not import package agent.
package lease
