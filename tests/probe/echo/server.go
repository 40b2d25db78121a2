package echo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/ipv4"
)

// Reply is what a server says about one request. Addresses are "ip:port".
type Reply struct {
	Name   string `json:"name"`   // the server's
	Client string `json:"client"` // where the request came from, as the server saw it
	Local  string `json:"local"`  // where it was sent to, as the server saw it
	Token  string `json:"token"`  // the request, or the digest of its bulk
}

// ServeTCP answers on every connection that l accepts, until l is closed.
func ServeTCP(l net.Listener, name string) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		go func() {
			defer conn.Close()
			// What a client does to its connection is the client's to report.
			_ = converse(conn, name)
		}()
	}
}

// converse answers line by line. "sink N" is followed by N bytes, "source N" asks for N, and "reset" for the connection's end by RST.
func converse(conn net.Conn, name string) error {
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		reply := Reply{Name: name, Client: conn.RemoteAddr().String(), Local: conn.LocalAddr().String(), Token: line}
		verb, arg, _ := strings.Cut(line, " ")
		switch verb {
		case "sink":
			n, err := strconv.ParseInt(arg, 10, 64)
			if err != nil {
				return err
			}
			if reply.Token, err = digest(in, n); err != nil {
				return err
			}
		case "source":
			n, err := strconv.ParseInt(arg, 10, 64)
			if err != nil {
				return err
			}
			if _, err := io.Copy(conn, bulk(n)); err != nil {
				return err
			}
			continue
		case "reset":
			return conn.(*net.TCPConn).SetLinger(0)
		}
		if err := json.NewEncoder(conn).Encode(reply); err != nil {
			return err
		}
	}
}

// ServeUDP answers each datagram from the address that it was sent to, which on a host with several addresses a plain socket does not do.
func ServeUDP(conn *net.UDPConn, name string) error {
	pc := ipv4.NewPacketConn(conn)
	if err := pc.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return fmt.Errorf("ask %s for destinations: %w", conn.LocalAddr(), err)
	}
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, cm, from, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// A port-unreachable about an earlier answer ends here; the server goes on.
			continue
		}
		reply := Reply{Name: name, Client: from.String(), Local: net.JoinHostPort(cm.Dst.String(), port), Token: token(buf[:n])}
		out, err := json.Marshal(reply)
		if err != nil {
			return err
		}
		_, _ = pc.WriteTo(out, &ipv4.ControlMessage{Src: cm.Dst}, from)
	}
}

// ServeHTTP answers GET with a Reply whose token is the request's path.
func ServeHTTP(l net.Listener, name string) error {
	handler := func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Reply{Name: name, Client: r.RemoteAddr, Local: local.String(), Token: r.URL.Path})
	}
	srv := &http.Server{Handler: http.HandlerFunc(handler), BaseContext: func(net.Listener) context.Context { return context.Background() }}
	return srv.Serve(l)
}
