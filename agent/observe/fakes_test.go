package observe

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// dockerd answers like Docker's API on a unix socket.
type dockerd struct {
	t      *testing.T
	socket string
	server *http.Server

	mu         sync.Mutex
	version    string // of the API
	oldest     string // of the API; what is asked for with an older one is refused
	containers string // JSON
	networks   string
	hangs      bool
	asked      []string      // requests, without the events'
	streams    []chan string // what is told to those that follow; closed at the end
	since      string
}

// newDockerd is stopped at first.
func newDockerd(t *testing.T) *dockerd {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebo") // shorter than t.TempDir: a socket's path has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &dockerd{t: t, socket: filepath.Join(dir, "docker.sock"), version: "1.41", containers: "[]", networks: "[]"}
	t.Cleanup(d.stop)
	return d
}

func (d *dockerd) start() {
	d.t.Helper()
	os.Remove(d.socket)
	listener, err := net.Listen("unix", d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		w.Header().Set("Api-Version", d.version)
	})
	mux.HandleFunc("/{version}/containers/json", d.answer(func() string { return d.containers }))
	mux.HandleFunc("/{version}/networks", d.answer(func() string { return d.networks }))
	mux.HandleFunc("/{version}/events", d.stream)
	d.server = &http.Server{Handler: mux}
	go d.server.Serve(listener)
}

// stop leaves the socket's file where it is, as a dockerd that is killed does.
func (d *dockerd) stop() {
	if d.server == nil {
		return
	}
	d.set(func() {
		for _, told := range d.streams {
			close(told)
		}
		d.streams, d.hangs = nil, false
	})
	d.server.Close()
	d.server = nil
}

func (d *dockerd) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *dockerd) refuses(w http.ResponseWriter, r *http.Request) bool {
	if v := r.PathValue("version"); d.oldest != "" && v < "v"+d.oldest {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"message":"client version %s is too old"}`, v)
		return true
	}
	return false
}

func (d *dockerd) answer(body func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked = append(d.asked, r.URL.RequestURI())
		if d.refuses(w, r) {
			return
		}
		if d.hangs {
			d.mu.Unlock()
			<-r.Context().Done()
			d.mu.Lock()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body())
	}
}

func (d *dockerd) stream(w http.ResponseWriter, r *http.Request) {
	told := make(chan string, 100)
	refused := false
	d.set(func() {
		if refused = d.refuses(w, r); !refused {
			d.since, d.streams = r.FormValue("since"), append(d.streams, told)
		}
	})
	if refused {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case event, more := <-told:
			if !more {
				return
			}
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
		}
	}
}

// tell sends an event to all that follow.
func (d *dockerd) tell(kind, action string) {
	d.set(func() {
		for _, told := range d.streams {
			told <- fmt.Sprintf(`{"Type":%q,"Action":%q,"Actor":{"ID":"c0ffee"},"time":1700000000,"timeNano":1700000000000000000}`+"\n", kind, action)
		}
	})
}

func (d *dockerd) followed() (n int) {
	d.set(func() { n = len(d.streams) })
	return n
}

// requests gives what was asked since the last time, one a line.
func (d *dockerd) requests() (all string) {
	d.set(func() { all, d.asked = strings.Join(d.asked, "\n"), nil })
	return all
}
