package main

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// tunnel makes a TUN device, and carries what is routed to it to the other end as datagrams, and back. It returns only with an error.
func tunnel(name string, local, remote netip.AddrPort) error {
	dev, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(dev, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	wire, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(wire, &unix.SockaddrInet4{Addr: local.Addr().As4(), Port: int(local.Port())}); err != nil {
		return fmt.Errorf("bind %s: %w", local, err)
	}
	if err := unix.Connect(wire, &unix.SockaddrInet4{Addr: remote.Addr().As4(), Port: int(remote.Port())}); err != nil {
		return fmt.Errorf("connect %s: %w", remote, err)
	}
	failed := make(chan error, 2)
	pass := func(from, to int) {
		failed <- pinned(func() error {
			buf := make([]byte, 1<<16)
			for {
				n, err := unix.Read(from, buf)
				if err != nil || n == 0 {
					continue // the other end is not there yet, or the device is down
				}
				_, _ = unix.Write(to, buf[:n]) // what does not go is lost, as on a wire
			}
		})
	}
	go pass(dev, wire)
	go pass(wire, dev)
	return <-failed
}
