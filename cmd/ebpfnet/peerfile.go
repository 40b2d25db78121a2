package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
)

// addPeersOf adds the hosts of a file, but for this one.
func (a *app) addPeersOf(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	peers, err := readPeers(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list this host's addresses: %w", err)
	}
	for _, q := range peers {
		if slices.ContainsFunc(own, func(n net.Addr) bool { return isAddress(n, q.Via) }) {
			continue
		}
		if err := a.ask(ctx, func(ctx context.Context, c *client.Client) error { return c.AddPeer(ctx, q) }); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Fprintf(a.stdout, "%s is reached by %s\n", q.Subnet, q.Via)
	}
	return nil
}

func isAddress(n net.Addr, address string) bool {
	p, err := netip.ParsePrefix(n.String())
	return err == nil && p.Addr().String() == address
}

// readPeers reads lines of a subnet, an address and perhaps a MAC address.
func readPeers(text string) ([]api.PeerRequest, error) {
	var peers []api.PeerRequest
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch len(words) {
		case 0:
		case 2:
			peers = append(peers, api.PeerRequest{Subnet: words[0], Via: words[1]})
		case 3:
			peers = append(peers, api.PeerRequest{Subnet: words[0], Via: words[1], MAC: words[2]})
		default:
			return nil, fmt.Errorf("line %d: it is a subnet, the host's address, and perhaps its MAC address", number)
		}
	}
	return peers, nil
}
