package lab

import (
	"net/netip"

	"github.com/ebpfnet/ebpfnet/tests/probe/echo"
)

// AddrPort is an address and a port.
func AddrPort(ip string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(port))
}

// At is AddrPort as the clients take it.
func At(ip string, port int) string { return AddrPort(ip, port).String() }

// BulkDigest is what Sink and Source return where n bytes arrived whole.
func BulkDigest(n int64) string { return echo.BulkDigest(n) }
