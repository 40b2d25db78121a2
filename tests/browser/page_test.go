package browser

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/page"
)

// source is an agent that answers as it is told; each answer is one second after the last.
type source struct {
	mu     sync.Mutex
	answer func(second int) api.Activity
	asked  int
	err    error
}

func (s *source) activity() (api.Activity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	a := s.answer(s.asked)
	a.At = float64(s.asked)
	return a, s.err
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// quiet is an answer with every list in it.
func quiet() api.Activity {
	return api.Activity{
		Instance: "test", Version: "1", Kernel: "6.1 tcx", Mode: "native", Watch: 1,
		Bridges: []api.BridgeStatus{}, Uplinks: []api.UplinkStatus{}, Tables: []api.Table{}, Problems: []string{},
		Endpoints: []api.EndpointActivity{}, Edges: []api.Edge{}, Ports: []api.PortActivity{}, Drops: []api.ReasonCount{}, Passed: []api.ReasonCount{},
	}
}

func serve(t *testing.T, answer func(second int) api.Activity) (*source, *Tab) {
	t.Helper()
	t.Parallel()
	s := &source{answer: answer}
	server := httptest.NewServer(page.Handler(s.activity, nil))
	t.Cleanup(server.Close)
	return s, Open(t, server.URL)
}

// host is two containers that talk, one of which publishes a port, and drops that rise by 7 each second.
func host(second int) api.Activity {
	a := quiet()
	n := uint64(second)
	a.Bridges = []api.BridgeStatus{{Name: "docker0", Mode: "native", Attached: true, Endpoints: 2, Subnets: []string{"172.17.0.0/16"}, Rules: "none"}}
	a.Endpoints = []api.EndpointActivity{
		{ID: 1, Name: "web", Container: "web", Bridge: "docker0", Address: "172.17.0.2", Flows: 3,
			Counters: api.EndpointCounters{ReceiveBytes: 2000 * n, ReceivePackets: 20 * n, TransmitBytes: 5_000_000 * n, TransmitPackets: 4000 * n, ReceiveDropped: 7 * n}},
		{ID: 2, Name: "db", Container: "db", Bridge: "docker0", Address: "172.17.0.3"},
	}
	a.Edges = []api.Edge{{From: 1, To: 2, Packets: 4000 * n, Bytes: 5_000_000 * n}, {From: 2, To: 1, Packets: 20 * n, Bytes: 2000 * n}, {From: 0, To: 1, Packets: 9, Bytes: 900}}
	a.Ports = []api.PortActivity{{Port: api.Port{HostIP: "0.0.0.0", HostPort: 8080, HostEnd: 8080, ContainerPort: 80, ContainerEnd: 80, Proto: "tcp",
		Endpoint: "web", Address: "172.17.0.2", Source: "docker", Active: true}, Flows: 2}}
	a.PortCount = 1
	a.Drops = []api.ReasonCount{{Reason: "no_port", Packets: 7 * n}}
	a.Tables = []api.Table{{Name: "flows4", Entries: 90, Capacity: 100}}
	return a
}

// What the agent counts is what is shown: rates, the graph, ports, drops.
func TestPage(t *testing.T) {
	_, b := serve(t, host)
	b.Await(t, "live", `document.getElementById("state").textContent === "live"`)
	for what, expression := range map[string]string{
		"web sends":         `[...document.querySelectorAll("#endpoints tbody tr")].some(r => r.cells[0].textContent === "web" && r.cells[4].textContent === "5.0 MB/s" && r.cells[3].textContent === "2.0 kB/s" && r.cells[7].textContent === "3")`,
		"its arc":           `document.querySelector("#graph path[data-from='1'][data-to='2']").dataset.rate === "5000000"`,
		"the way back":      `document.querySelector("#graph path[data-from='2'][data-to='1']").dataset.rate === "2000"`,
		"both rates":        `[...document.querySelectorAll("#graph text.rate")].some(e => e.textContent === "5.0 MB/s")`,
		"idle outside":      `document.querySelector("#graph path[data-from='0'][data-to='1']").classList.contains("idle")`,
		"port":              `document.querySelector("#ports tbody tr").innerText.includes("0.0.0.0:8080/tcp") && document.querySelector("#ports tbody tr").cells[3].textContent === "2"`,
		"drops":             `document.querySelector("#drops tbody tr").cells[0].textContent === "no_port" && document.querySelector("#drops tbody tr").cells[2].textContent === "7.0/s"`,
		"a full table":      `document.querySelector("#tables tbody tr .bad").textContent === "90 %"`,
		"no peers":          `document.getElementById("peers-section").hidden`,
		"no problems":       `document.getElementById("problems").hidden`,
		"the node's words":  `document.querySelector("#graph [data-id='1']").getAttribute("aria-label").startsWith("web: docker0, 172.17.0.2, receives 2.0 kB/s, sends 5.0 MB/s, 3 flows")`,
		"the pair as a row": `[...document.querySelectorAll("#pairs tbody tr")].some(r => r.cells[0].textContent === "web" && r.cells[1].textContent === "db" && r.cells[3].textContent === "4,000/s")`,
	} {
		if !Eval[bool](t, b, expression) {
			t.Errorf("%s: %s", what, expression)
		}
	}
	if c := b.Complaints(); len(c) > 0 {
		t.Errorf("the page complains: %q", c)
	}
}

// Everything is reached and done with the keyboard, and the focus stays where it is while rates move.
func TestKeyboard(t *testing.T) {
	s, b := serve(t, host)
	b.Await(t, "live", `document.getElementById("state").textContent === "live"`)
	b.Run(t, chromedp.Focus(`#graph [data-id="1"]`, chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	if !Eval[bool](t, b, `document.querySelector("#graph [data-id='1']").getAttribute("aria-pressed") === "true" && document.querySelector("#endpoints tr.chosen").cells[0].textContent === "web"`) {
		t.Error("Enter does not choose a node")
	}
	n := s.count()
	await(t, func() bool { return s.count() > n })
	if !Eval[bool](t, b, `document.activeElement.dataset.id === "1"`) {
		t.Error("an update takes the focus away")
	}
	b.Run(t, chromedp.KeyEvent(kb.Escape))
	if !Eval[bool](t, b, `document.querySelector("#graph [data-id='1']").getAttribute("aria-pressed") === "false"`) {
		t.Error("Escape does not let go of a node")
	}
	b.Run(t, chromedp.Focus(`#endpoints th[data-sort="name"] button`, chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	if !Eval[bool](t, b, `document.querySelector("#endpoints th[data-sort='name']").getAttribute("aria-sort") === "ascending" && document.querySelector("#endpoints tbody tr").cells[0].textContent === "db"`) {
		t.Error("Enter on a heading does not sort")
	}
	if !Eval[bool](t, b, `[...document.querySelectorAll("button, select, input, [tabindex='0']")].every(e => (e.innerText || "").trim() || e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.labels?.length)`) {
		t.Error("something has no name for a screen reader")
	}
}

// A page that nobody looks at asks for nothing: paused, or in the background.
func TestNobodyLooks(t *testing.T) {
	s, b := serve(t, host)
	b.Await(t, "live", `document.getElementById("state").textContent === "live"`)
	b.Run(t, chromedp.SetValue("#interval", "1000", chromedp.ByQuery),
		chromedp.Evaluate(`document.getElementById("interval").dispatchEvent(new Event("change"))`, nil))
	for _, hide := range []struct{ name, do, undo string }{
		{"paused", `document.getElementById("pause").click()`, `document.getElementById("pause").click()`},
		{"hidden", `Object.defineProperty(document, "hidden", {value: true, configurable: true}); document.dispatchEvent(new Event("visibilitychange"))`,
			`Object.defineProperty(document, "hidden", {value: false, configurable: true}); document.dispatchEvent(new Event("visibilitychange"))`},
	} {
		b.Run(t, chromedp.Evaluate(hide.do+"; 0", nil))
		// What was under way when it was hidden may still come.
		n := s.count() + 1
		quietUntil := time.Now().Add(1600 * time.Millisecond)
		await(t, func() bool {
			if s.count() > n {
				t.Fatalf("%s: the page goes on asking", hide.name)
			}
			return time.Now().After(quietUntil)
		})
		b.Run(t, chromedp.Evaluate(hide.undo+"; 0", nil))
		await(t, func() bool { return s.count() > n+1 })
	}
}

// Names are text. Docker allows few of these; another runtime, a network namespace or a bridge may have any.
func TestHostileNames(t *testing.T) {
	hostile := []string{
		`<img src=x onerror="window.hacked=1">`, `"><script>window.hacked=1</script>`, `</text></svg><script>window.hacked=1</script>`,
		`javascript:window.hacked=1`, `' onmouseover='window.hacked=1`, "${window.hacked=1}", "__proto__", "constructor", strings.Repeat("long", 200), "\u202egnp.exe", "",
	}
	_, b := serve(t, func(second int) api.Activity {
		a := host(second)
		for i, name := range hostile {
			id := uint32(10 + i)
			a.Endpoints = append(a.Endpoints, api.EndpointActivity{ID: id, Name: name, Container: name, Bridge: name, Address: name})
			a.Edges = append(a.Edges, api.Edge{From: id, To: 1, Bytes: uint64(1000 * second)})
			a.Ports = append(a.Ports, api.PortActivity{Port: api.Port{HostIP: name, HostPort: 1, HostEnd: 1, Proto: name, Endpoint: name, Address: name, Source: name}})
			a.Drops = append(a.Drops, api.ReasonCount{Reason: name, Packets: uint64(second)})
			a.Problems = append(a.Problems, name)
			a.Tables = append(a.Tables, api.Table{Name: name, Capacity: 1})
			a.Bridges = append(a.Bridges, api.BridgeStatus{Name: name, Subnets: []string{name}})
		}
		a.Instance, a.Version, a.Kernel, a.Mode = hostile[0], hostile[1], hostile[2], hostile[0]
		return a
	})
	b.Await(t, "live", `document.getElementById("state").textContent === "live"`)
	b.Await(t, "all names", fmt.Sprintf(`document.querySelectorAll("#endpoints tbody tr").length === %d`, 2+len(hostile)))
	if Eval[bool](t, b, `"hacked" in window`) {
		t.Error("a name was run")
	}
	if n := Eval[int](t, b, `document.querySelectorAll("img, script:not([src='page.js']), iframe, object").length`); n > 0 {
		t.Errorf("%d elements were made of names", n)
	}
	if got := Eval[string](t, b, `[...document.querySelectorAll("#endpoints tbody tr")].map(r => r.cells[0].textContent).find(s => s.startsWith("<img"))`); got != hostile[0] {
		t.Errorf("shown is %q, want %q", got, hostile[0])
	}
	if c := b.Complaints(); len(c) > 0 {
		t.Errorf("the page complains: %q", c)
	}
}

// A thousand containers are shown, found and sorted, and the page stays quick.
func TestThousandContainers(t *testing.T) {
	const n = 1000
	_, b := serve(t, func(second int) api.Activity {
		a := quiet()
		for i := range n {
			id := uint32(i + 1)
			a.Endpoints = append(a.Endpoints, api.EndpointActivity{ID: id, Name: fmt.Sprintf("c%04d", i), Bridge: fmt.Sprintf("br%d", i%8), Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1),
				Counters: api.EndpointCounters{TransmitBytes: uint64(i * 1000 * second)}})
			a.Edges = append(a.Edges, api.Edge{From: id, To: 0, Bytes: uint64(i * 1000 * second)}, api.Edge{From: id, To: uint32((i*7)%n + 1), Bytes: uint64(second)})
		}
		return a
	})
	b.Await(t, "live", `document.getElementById("state").textContent === "live"`)
	for what, expression := range map[string]string{
		"the busiest first":       `document.querySelector("#endpoints tbody tr").cells[0].textContent === "c0999"`,
		"no more than some rows":  `document.querySelectorAll("#endpoints tbody tr").length === 100`,
		"what is shown":           `document.getElementById("endpoints-note").textContent === "100 of 1,000 are shown."`,
		"no more than some drawn": `document.querySelectorAll("#graph .node").length === 42`,
		"the busiest are drawn":   `document.querySelector("#graph [data-id='1000']") !== null && document.querySelector("#graph [data-id='1']") === null`,
	} {
		if !Eval[bool](t, b, expression) {
			t.Errorf("%s: %s", what, expression)
		}
	}
	b.Run(t, chromedp.SendKeys("#filter", "c0007", chromedp.ByQuery))
	b.Await(t, "the one that is looked for", `document.querySelectorAll("#endpoints tbody tr").length === 1 && document.querySelector("#endpoints tbody tr").cells[0].textContent === "c0007"`)
	// One update, measured by the page itself; the bound is for a busy machine, and an update that grows with the square is far beyond it.
	if ms := Eval[float64](t, b, `(() => { const s = performance.now(); for (let i = 0; i < 5; i++) document.querySelector("#endpoints th[data-sort='name'] button").click(); return (performance.now() - s) / 5; })()`); ms > 1000 {
		t.Errorf("an update takes %.0f ms", ms)
	} else {
		t.Logf("an update takes %.0f ms", ms)
	}
}

// An agent that goes away is told, and one that comes back is followed again.
func TestAgentGoesAway(t *testing.T) {
	s, b := serve(t, host)
	b.Await(t, "live", `document.getElementById("state").textContent === "live"`)
	s.mu.Lock()
	s.err = fmt.Errorf("read map drop_stats: bad file descriptor")
	s.mu.Unlock()
	b.Await(t, "the error", `document.getElementById("state").textContent.includes("bad file descriptor")`)
	s.mu.Lock()
	s.err = nil
	s.mu.Unlock()
	b.Await(t, "live again", `document.getElementById("state").textContent === "live"`)
}

func await(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}
