package parity

import (
	"fmt"
	"testing"
	"time"

	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// becomes polls until an outcome is the one that is waited for, and returns the last.
func becomes(want string, see func() string) string {
	for deadline := time.Now().Add(2 * patience); ; {
		got := see()
		if got == want || time.Now().After(deadline) {
			return got
		}
	}
}

// lifeChecks are containers that come and go.
func lifeChecks() (list []check) {
	list = append(list, both("a stopped container's published port", func(t *testing.T, s *site, network string) string {
		port := map[string]int{"tcp": 8401, "udp": 8402}[network]
		c := s.Run(t, "gone", publish(fmt.Sprintf("%d:80/%s", port, network))...)
		before := s.ask(s.Remote, network, lab.At(lab.HostIP, port))
		c.Stop(t)
		return before + "; " + becomes("refused", func() string { return s.ask(s.Remote, network, lab.At(lab.HostIP, port)) })
	})...)
	list = append(list, one("a container is killed under a connection", func(t *testing.T, s *site) string {
		c := s.Run(t, "killed", publish("8403:80")...)
		client := s.dial(t, s.Remote, "tcp", lab.At(lab.HostIP, 8403))
		before := s.again(client)
		c.Stop(t)
		if err := client.Conn().SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, err := client.Conn().Read(make([]byte, 1))
		return before + "; " + reason(err)
	})...)
	list = append(list, both("a container is started anew", func(t *testing.T, s *site, network string) string {
		port := map[string]int{"tcp": 8404, "udp": 8405}[network]
		c := s.Run(t, "anew", publish(fmt.Sprintf("%d:80/%s", port, network))...)
		before := s.ask(s.Remote, network, lab.At(lab.HostIP, port))
		c.Restart(t)
		s.await(t, c, "anew")
		want := "anew saw far, own port"
		return before + "; " + becomes(want, func() string { return s.ask(s.Remote, network, lab.At(lab.HostIP, port)) })
	})...)
	// F-12: the client never changes its port, and never pauses for as long as a conntrack entry lives.
	list = append(list, one("a UDP client that goes on while its container is started anew", func(t *testing.T, s *site) string {
		c := s.Run(t, "phoenix", publish("8406:80/udp")...)
		return s.follows(t, 8406, "phoenix", func() { c.Restart(t) })
	})...)
	list = append(list, one("a UDP client that goes on while another container takes over the port", func(t *testing.T, s *site) string {
		c := s.Run(t, "old", publish("8407:80/udp")...)
		return s.follows(t, 8407, "heir", func() {
			c.Remove(t)
			s.Run(t, "heir", publish("8407:80/udp")...)
		})
	})...)
	list = append(list, one("a UDP client that began before the port was published", func(t *testing.T, s *site) string {
		return s.follows(t, 8408, "late", func() { s.Run(t, "late", publish("8408:80/udp")...) })
	})...)
	list = append(list, both("a container that another network is given to", func(t *testing.T, s *site, network string) string {
		c := s.Run(t, "mover")
		s.Docker(t, "network", "connect", s.other, c.ID)
		c.Refresh(t)
		s.await(t, c, "mover")
		want := "mover saw stranger, own port"
		return becomes(want, func() string { return s.ask(s.stranger.NS, network, lab.At(c.IPs[s.other].String(), 80)) })
	})...)
	list = append(list, both("a published port by an address that the host is given later", func(t *testing.T, s *site, network string) string {
		ip := map[string]string{"tcp": "192.0.2.61", "udp": "192.0.2.62"}[network]
		s.NS.IP(t, "addr add "+ip+"/24 dev up0")
		return becomes("web saw far, own port", func() string { return s.ask(s.Remote, network, lab.At(ip, 8080)) })
	})...)
	return list
}

// follows sends from one UDP socket of far all the while that something happens on the host, and says who answers it in the end.
func (s *site) follows(t *testing.T, port int, want string, change func()) string {
	t.Helper()
	client := s.dial(t, s.Remote, "udp", lab.At(lab.HostIP, port))
	last, before := make(chan string, 1), make(chan struct{})
	stop := make(chan struct{})
	go func() {
		got := "silence"
		defer func() { last <- got }()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if a, err := client.Client.Ask(fmt.Sprintf("turn %d", n), 50*time.Millisecond); err == nil {
				got = a.Name
			} else if reason(err) == "refused" {
				// Nothing else slows the client down then.
				time.Sleep(5 * time.Millisecond)
			}
			if n == 3 {
				close(before)
			}
		}
	}()
	<-before
	change()
	timer := time.NewTimer(patience / 2)
	defer timer.Stop()
	<-timer.C
	close(stop)
	if got := <-last; got != want {
		return "answered by " + got + " at last"
	}
	return "answered by " + want
}
