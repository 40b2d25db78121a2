// Package hosts shows how two Docker hosts in one network get along when things go wrong between them: packets that are too big, a host that
// dies, an etcd that is away.
package hosts
