// Command meter is both ends of a measurement: `meter serve PORT…` answers, `meter WORKLOAD ADDRESS:PORT DURATION [STREAMS]` asks, and writes
// what it measured as JSON. `meter tun DEVICE LOCAL:PORT REMOTE:PORT` is one end of a tunnel in user space.
//
// Both use blocking sockets on threads of their own: the runtime's poller would add system calls to each request, and hide what the network
// costs behind them.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/bench/meter/result"
)

// workloads are what a client may do.
var workloads = map[string]func(to netip.AddrPort, d time.Duration, streams int) (result.Result, error){
	"tcp_rr": tcpRequests, "udp_rr": udpRequests, "crr": connections, "udp_pps": datagrams, "stream": streams,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "meter:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 1 && args[0] == "serve" {
		var ports []uint16
		for _, a := range args[1:] {
			port, err := strconv.ParseUint(a, 10, 16)
			if err != nil {
				return fmt.Errorf("port %q: %w", a, err)
			}
			ports = append(ports, uint16(port))
		}
		return serve(ports)
	}
	if len(args) == 4 && args[0] == "tun" {
		local, err := netip.ParseAddrPort(args[2])
		if err != nil {
			return err
		}
		remote, err := netip.ParseAddrPort(args[3])
		if err != nil {
			return err
		}
		return tunnel(args[1], local, remote)
	}
	if len(args) != 3 && len(args) != 4 || workloads[args[0]] == nil {
		return fmt.Errorf("usage: meter serve PORT… | meter tun DEVICE LOCAL:PORT REMOTE:PORT | meter tcp_rr|udp_rr|crr|udp_pps|stream ADDRESS:PORT DURATION [STREAMS]")
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	n := 1
	if len(args) == 4 {
		if n, err = strconv.Atoi(args[3]); err != nil || n < 1 {
			return fmt.Errorf("%q streams", args[3])
		}
	}
	r, err := workloads[args[0]](to, d, n)
	if err != nil {
		return fmt.Errorf("%s %s: %w", args[0], to, err)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
