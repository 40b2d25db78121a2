// Command probe is the program in the tests' containers: the echo server, and a client for what must run inside a container.
//
//	probe serve [-name N] [-tcp PORTS] [-udp PORTS] [-http PORTS]    PORTS: 80,81,9000-9009
//	probe ask [-net tcp|udp] [-timeout D] ADDR:PORT                  prints the answer as JSON
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/probe/echo"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("serve or ask?")
	}
	switch args[0] {
	case "serve":
		return serve(args[1:])
	case "ask":
		return ask(args[1:])
	}
	return fmt.Errorf("%s: serve or ask?", args[0])
}

func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	host, _ := os.Hostname()
	name := flags.String("name", host, "what the answers are signed with")
	tcp := flags.String("tcp", "80,81", "ports that answer lines")
	udp := flags.String("udp", "80,81", "ports that answer datagrams")
	http := flags.String("http", "8000", "ports that answer GET")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	failed := make(chan error, 16)
	start := func(ports string, one func(port string) error) {
		list, err := parsePorts(ports)
		if err != nil {
			failed <- err
		}
		for _, port := range list {
			go func() {
				if err := one(":" + strconv.Itoa(port)); err != nil {
					failed <- err
				}
			}()
		}
	}
	start(*tcp, func(addr string) error {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return err
		}
		return echo.ServeTCP(l, *name)
	})
	start(*udp, func(addr string) error {
		pc, err := net.ListenPacket("udp4", addr)
		if err != nil {
			return err
		}
		return echo.ServeUDP(pc.(*net.UDPConn), *name)
	})
	start(*http, func(addr string) error {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return err
		}
		return echo.ServeHTTP(l, *name)
	})
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func ask(args []string) error {
	flags := flag.NewFlagSet("ask", flag.ContinueOnError)
	network := flags.String("net", "tcp", "tcp or udp")
	timeout := flags.Duration("timeout", time.Second, "for the connection, and for the answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(flags.Arg(0))
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout(*network, to.String(), *timeout)
	if err != nil {
		return err
	}
	client := echo.NewClient(conn)
	defer client.Close()
	answer, err := client.Ask(fmt.Sprintf("probe-%d", time.Now().UnixNano()), *timeout)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// parsePorts reads "80,81,9000-9009"; an empty string is none.
func parsePorts(s string) ([]int, error) {
	var ports []int
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		lo, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", part, err)
		}
		hi, err := strconv.Atoi(last)
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", part, err)
		}
		for p := lo; p <= hi; p++ {
			ports = append(ports, p)
		}
	}
	return ports, nil
}
