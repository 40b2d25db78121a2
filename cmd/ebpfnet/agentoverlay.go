package main

import (
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/ebpfnet/ebpfnet/agent"
	"github.com/ebpfnet/ebpfnet/agent/lease"
)

const (
	etcdPasswordEnv     = "EBPFNET_ETCD_PASSWORD"
	defaultDockerConfig = "/etc/docker/daemon.json"
	defaultLeaseTTL     = 24 * time.Hour
	defaultRenewMargin  = time.Hour
)

// addOverlayFlags are how a host is told to be one of several.
func addOverlayFlags(f *pflag.FlagSet, o *agent.OverlayOptions) {
	f.StringSliceVar(&o.Etcd.Endpoints, "etcd-endpoints", nil, "URLs of the etcd that the hosts' network is in")
	f.StringVar(&o.Etcd.Prefix, "etcd-prefix", lease.DefaultPrefix, "where in etcd the network is")
	f.StringVar(&o.Etcd.CACert, "etcd-cacert", "", "file with the authority of etcd's certificates")
	f.StringVar(&o.Etcd.Cert, "etcd-cert", "", "file with this host's certificate for etcd")
	f.StringVar(&o.Etcd.Key, "etcd-key", "", "file with its key")
	f.StringVar(&o.Etcd.User, "etcd-user", "", "etcd user; the password is in the environment variable "+etcdPasswordEnv)
	f.StringVar(&o.Device, "iface", "", "the device that leads to the other hosts (default: the default route's)")
	f.String("public-ip", "", "the address at which the other hosts reach this one (default: the device's first)")
	f.StringVar(&o.SubnetFile, "subnet-file", "", "write this host's subnet and MTU there, for dockerd's start")
	f.StringVar(&o.DockerConfig, "write-docker-config", "", "write them into dockerd's configuration file too")
	f.Lookup("write-docker-config").NoOptDefVal = defaultDockerConfig
	f.DurationVar(&o.TTL, "lease-ttl", defaultLeaseTTL, "how long this host's subnet stays its own without a sign of it")
	f.DurationVar(&o.Margin, "renew-margin", defaultRenewMargin, "renew that at the latest this long before it ends")
	f.String("on-conflict", "keep", "what to do where another host has taken this one's subnet: keep it for the containers here, or renumber")
}

// finishOverlay reads the flags that are more than text.
func finishOverlay(f *pflag.FlagSet, o *agent.OverlayOptions) error {
	if s := f.Lookup("public-ip").Value.String(); s != "" {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() {
			return usagef("--public-ip %q: it is an IPv4 address", s)
		}
		o.PublicIP = a
	}
	switch s := f.Lookup("on-conflict").Value.String(); s {
	case "keep":
	case "renumber":
		o.Renumber = true
	default:
		return usagef("--on-conflict %q: it is keep or renumber", s)
	}
	if len(o.Etcd.Endpoints) == 0 {
		for _, name := range []string{"etcd-prefix", "etcd-cacert", "etcd-cert", "etcd-key", "etcd-user", "subnet-file", "write-docker-config"} {
			if f.Changed(name) {
				return usagef("--%s: it goes with --etcd-endpoints", name)
			}
		}
		return nil
	}
	o.Etcd.Password = os.Getenv(etcdPasswordEnv)
	if !f.Changed("renew-margin") && o.Margin >= o.TTL {
		o.Margin = o.TTL / 3
	}
	check := lease.Options{Etcd: o.Etcd, TTL: o.TTL, Margin: o.Margin}
	if err := check.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}
