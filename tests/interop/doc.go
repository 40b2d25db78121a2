// Package interop puts hosts of the product and hosts with a real flanneld into one network. It runs where FLANNELD names one:
//
//	FLANNELD=/usr/local/bin/flanneld go test ./tests/interop
//
// What flanneld says and expects on the wire and in etcd is also held by golden files, which the other tests compare without it.
package interop
