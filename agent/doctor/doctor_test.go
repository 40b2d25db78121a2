package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/loader"
)

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func check(t *testing.T, got api.Finding, level, text string) {
	t.Helper()
	if got.Level != level || !strings.Contains(got.Found+": "+got.Advice, text) {
		t.Errorf("got %+v, want level %s and %q", got, level, text)
	}
}

func TestIPForward(t *testing.T) {
	dir := t.TempDir()
	check(t, ipForward(write(t, filepath.Join(dir, "1"), "1\n")), OK, "on")
	check(t, ipForward(write(t, filepath.Join(dir, "0"), "0\n")), Warning, "sysctl -w net.ipv4.ip_forward=1")
}

func TestDockerProxies(t *testing.T) {
	proc := t.TempDir()
	check(t, dockerProxies(proc), OK, "no processes")
	write(t, filepath.Join(proc, "12", "comm"), "docker-proxy\n")
	write(t, filepath.Join(proc, "13", "comm"), "dockerd\n")
	write(t, filepath.Join(proc, "14", "comm"), "docker-proxy\n")
	check(t, dockerProxies(proc), Note, "2 processes")
	// One of another network namespace is another host's.
	write(t, filepath.Join(proc, "thread-self/ns/net"), "")
	write(t, filepath.Join(proc, "14/ns/net"), "")
	if err := os.MkdirAll(filepath.Join(proc, "12/ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(proc, "thread-self/ns/net"), filepath.Join(proc, "12/ns/net")); err != nil {
		t.Fatal(err)
	}
	check(t, dockerProxies(proc), Note, "1 processes")
}

func TestDocker(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	check(t, docker(t.Context(), "unix://"+socket), Note, "no answer at unix://"+socket)
	check(t, docker(t.Context(), "ssh://host"), Warning, "no address that this host can dial")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_ping" {
			http.NotFound(w, r)
		}
		w.Header().Set("Api-Version", "1.41")
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	check(t, docker(t.Context(), "unix://"+socket), OK, "version 1.41")
}

func TestForeignRules(t *testing.T) {
	list := func(rules []string, err error) Host {
		return Host{ForeignRules: func(context.Context) ([]string, error) { return rules, err }}
	}
	check(t, foreignRules(t.Context(), list(nil, nil))[0], OK, "no netfilter rules")
	check(t, foreignRules(t.Context(), list([]string{"DOCKER-USER: -j DROP"}, nil))[0], Warning, "DOCKER-USER: -j DROP")
	check(t, foreignRules(t.Context(), list(nil, errors.New("no nft")))[0], Warning, "no nft")
}

// Every map is listed with its size, and the sum.
func TestMemory(t *testing.T) {
	all := memory(loader.Paths{Maps: t.TempDir()})
	if len(all) < 10 {
		t.Fatalf("%d findings", len(all))
	}
	found := false
	for _, f := range all {
		if f.Check == "map flows4" {
			found = true
			check(t, f, OK, "524288 entries")
		}
	}
	if !found {
		t.Error("the flow table is missing")
	}
	check(t, all[len(all)-1], OK, "with the default sizes")
}

// Every feature that the loader probes has a purpose here, and no other has.
func TestPurposes(t *testing.T) {
	why := purposes()
	for name := range (loader.Features{}).Map() {
		if why[name] == "" {
			t.Errorf("feature %s has no purpose", name)
		}
		delete(why, name)
	}
	for name := range why {
		t.Errorf("feature %s is not probed", name)
	}
}
