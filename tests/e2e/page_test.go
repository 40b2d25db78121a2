package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/tests/browser"
	"github.com/ebpfnet/ebpfnet/tests/lab"
)

// The page in a real browser shows real traffic: who talks to whom, rates that move, published ports, drops and their reason. With -update,
// what it looks like is written to docs/.
func TestPage(t *testing.T) {
	ownSites(t, func(t *testing.T, s site) {
		s.Attach(t, docker0()...)
		web := s.Run(t, "web", "-p", "8080:80", "-p", "8080:80/udp")
		shop, db, logs := s.Run(t, "shop"), s.Run(t, "db"), s.Run(t, "logs")
		s.Remote.Serve(t, "far", ":7000")
		ask := chatter(t)
		ask(shop.NS, "udp", web.At(80))
		b := browser.Open(t, s.forward(t, pageAddr(t, s)))
		b.Dark(t, false)
		b.Run(t, chromedp.SetValue("#interval", "1000", chromedp.ByQuery))
		b.Await(t, "live", `document.getElementById("state").textContent === "live"`)
		// A line of the page's table of containers, and an arc between two of them, which for the outside is 0.
		b.Run(t, chromedp.Evaluate(`
			window.row = name => [...document.querySelectorAll("#endpoints tbody tr")].find(r => r.cells[0].textContent === name);
			window.id = name => name === "outside" ? "0" : name === "host" ? "4294967295" : [...document.querySelectorAll("#graph .node")].find(n => n.getAttribute("aria-label").startsWith(name + ":"))?.dataset.id;
			window.arc = (from, to) => document.querySelector("#graph path[data-from='" + id(from) + "'][data-to='" + id(to) + "']");
			window.rate = (from, to) => Number(arc(from, to)?.dataset.rate || 0); 0`, nil))
		for _, c := range []*lab.Container{web, shop, db, logs} {
			b.Await(t, "container "+c.Name, fmt.Sprintf(`row(%q)?.cells[2].textContent === %q`, c.Name, c.IP))
		}
		b.Await(t, "traffic between two containers, both ways", fmt.Sprintf(`rate(%q, %q) > 0 && rate(%q, %q) > 0`, shop.Name, web.Name, web.Name, shop.Name))
		if browser.Eval[bool](t, b, fmt.Sprintf(`arc(%q, %q) !== null`, shop.Name, db.Name)) {
			t.Error("an arc between two that do not talk")
		}
		b.Await(t, "the port", `[...document.querySelectorAll("#ports tbody tr")].some(r => r.textContent.includes("0.0.0.0:8080/udp"))`)

		ask(web.NS, "udp", db.At(80))
		ask(s.Remote, "udp", lab.At(lab.HostIP, 8080))
		ask(db.NS, "udp", lab.At(lab.RemoteIP, 7000))
		ask(s.NS, "udp", logs.At(80))
		for _, pair := range [][2]string{{web.Name, db.Name}, {"outside", web.Name}, {web.Name, "outside"}, {db.Name, "outside"}, {"host", logs.Name}, {logs.Name, "host"}} {
			b.Await(t, fmt.Sprintf("traffic from %s to %s", pair[0], pair[1]), fmt.Sprintf(`rate(%q, %q) > 0`, pair[0], pair[1]))
		}
		b.Await(t, "a flow to the port", `[...document.querySelectorAll("#ports tbody tr")].some(r => r.textContent.includes("0.0.0.0:8080/udp") && Number(r.cells[3].textContent) > 0)`)

		spoof(t, s, logs, db, 5)
		b.Await(t, "the drops and their reason", `[...document.querySelectorAll("#drops tbody tr")].some(r => r.cells[0].textContent === "spoofed" && r.cells[1].textContent === "5")`)
		b.Await(t, "whose they are", fmt.Sprintf(`row(%q).cells[8].textContent.startsWith("5")`, logs.Name))
		if flag.Lookup("update").Value.String() == "true" && s.World == lab.Native {
			const dir = "../../docs"
			b.Screenshot(t, dir+"/page-light.png")
			b.Dark(t, true)
			b.Run(t, chromedp.Evaluate(`document.getElementById("containers").scrollIntoView(); 0`, nil))
			b.Screenshot(t, dir+"/page-dark.png")
		}

		// What ends is seen to end.
		logs.Remove(t)
		b.Await(t, "the container's end", fmt.Sprintf(`row(%q) === undefined && id(%q) === undefined`, logs.Name, logs.Name))
		if c := b.Complaints(); len(c) > 0 {
			t.Errorf("the page complains: %q", c)
		}
	})
}

// The agent gives the page to nobody who comes under another's name, and nothing of the unix socket's; metrics need no name.
func TestPageIsTheHostsOwn(t *testing.T) {
	eachWorld(t, func(t *testing.T, s site) {
		base := s.forward(t, pageAddr(t, s))
		for _, tt := range []struct {
			path, host string
			code       int
		}{
			{"/", "", 200}, {"/activity.json", "localhost:9979", 200}, {"/", "evil.example", 403}, {"/activity.json", "evil.example:9979", 403},
			{"/metrics", "prometheus-target.example", 200}, {"/v1/status", "", 404}, {"/debug/pprof/", "", 404},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tt.host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != tt.code {
				t.Errorf("%s as %q: %s, %v, want %d", tt.path, tt.host, resp.Status, err, tt.code)
			}
			if tt.path == "/activity.json" && tt.code == 200 {
				var a api.Activity
				if err := json.Unmarshal(body, &a); err != nil || a.Instance != s.Instance.Name || len(a.Bridges) == 0 {
					t.Errorf("%v: %s", err, body)
				}
			}
		}
	})
}

func pageAddr(t *testing.T, s site) string {
	t.Helper()
	u, err := url.Parse(s.Status(t).Agent.PageURL)
	if err != nil || u.Host == "" {
		t.Fatalf("the agent has no page: %+v, %v", s.Status(t).Agent, err)
	}
	return u.Host
}

// forward makes an address of the host's own namespace reachable from here, and gives it as a URL.
func (s site) forward(t testing.TB, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer here.Close()
				var there net.Conn
				if err := s.NS.Do(func() (err error) { there, err = net.Dial("tcp", addr); return err }); err != nil {
					return
				}
				defer there.Close()
				go func() { _, _ = io.Copy(there, here); there.Close() }()
				_, _ = io.Copy(here, there)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// chatter gives a function that has a namespace talk to an address until the test ends.
func chatter(t *testing.T) func(n *lab.Netns, network, to string) {
	ctx, cancel := context.WithCancel(context.Background())
	var running []chan struct{}
	t.Cleanup(func() {
		cancel()
		for _, done := range running {
			<-done
		}
	})
	return func(n *lab.Netns, network, to string) {
		client := n.Dial(t, network, to, lab.Within(time.Second))
		done := make(chan struct{})
		running = append(running, done)
		go func() {
			defer close(done)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					// Whoever is asked may end before this does.
					_, _ = client.TryAsk()
				}
			}
		}()
	}
}

// spoof has a container send packets under another's address.
func spoof(t *testing.T, s site, from, as *lab.Container, count int) {
	t.Helper()
	w := lab.Way{
		SrcMAC: from.NS.Device(t, "eth0").HardwareAddr, DstMAC: s.gateway(t),
		Src: netip.AddrPortFrom(as.IP, 5000), Dst: lab.AddrPort(lab.RemoteIP, 7000),
	}
	for i := range count {
		from.NS.Inject(t, "eth0", w.UDP(t, []byte(strings.Repeat("x", i+1))))
	}
}
