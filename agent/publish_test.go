package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ebpfnet/ebpfnet/agent/api"
	"github.com/ebpfnet/ebpfnet/agent/client"
	"github.com/ebpfnet/ebpfnet/policy"
)

func (l *lab) publish(spec, target string) (api.Port, error) {
	return l.client.Publish(l.t.Context(), api.PublishRequest{Spec: spec, Target: target})
}

func TestPublish(t *testing.T) {
	l := newLab(t, dockerHost())
	l.start(false)
	if _, err := l.publish("80:80", "web"); err == nil || !strings.Contains(err.Error(), "nothing is attached") {
		t.Fatalf("without a bridge: %v", err)
	}
	l.attach("docker0")
	got, err := l.publish("8080:80", "")
	if err != nil {
		t.Fatal(err)
	}
	want := api.Port{HostIP: "0.0.0.0", HostPort: 8080, HostEnd: 8080, ContainerPort: 80, ContainerEnd: 80, Proto: "tcp", Endpoint: "web",
		Address: "172.17.0.2", Source: "user", Active: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("port (-want +got):\n%s", diff)
	}
	if n := len(l.tables.Publish); n != 1 {
		t.Errorf("%d ports in the maps", n)
	}

	// It outlives the agent, and the container's restart under another address.
	l.stopAgent()
	l.start(false)
	l.change(func(o *policy.Observed) {
		o.Endpoints = []policy.Endpoint{endpoint("vethnew", 7, 2, "172.17.0.9/16")}
		o.Containers = []policy.Container{container("web", "bbbb2222", "172.17.0.9")}
	})
	l.await("the new container has programs", func() bool { return len(l.programs[7]) == 2 })
	l.settle()
	ports, err := l.client.Ports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want.Address = "172.17.0.9"
	if diff := cmp.Diff([]api.Port{want}, ports); diff != "" {
		t.Errorf("ports after restarts (-want +got):\n%s", diff)
	}
	e, err := l.client.Endpoint(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]api.Port{want}, e.Ports); diff != "" || e.VethIfindex != 7 || e.Counters.ReceivePackets != 7 {
		t.Errorf("endpoint %+v, ports (-want +got):\n%s", e, diff)
	}

	if err := l.client.Unpublish(t.Context(), api.UnpublishRequest{Spec: "8080"}); err != nil {
		t.Fatal(err)
	}
	if n := len(l.tables.Publish); n != 0 {
		t.Errorf("after unpublish %d ports in the maps", n)
	}
	err = l.client.Unpublish(t.Context(), api.UnpublishRequest{Spec: "8080"})
	if err == nil || !strings.Contains(err.Error(), "nothing is published there") {
		t.Errorf("a second time: %v", err)
	}
}

func TestPublishRefuses(t *testing.T) {
	tests := []struct {
		name, spec, target string
		want               string
		usage              bool
		broken             error // of the maps
	}{
		{name: "port 0", spec: "0:80", target: "web", want: "port 0 is not between 1 and 65535", usage: true},
		{name: "port 70000", spec: "70000:80", target: "web", want: "port 70000 is not between", usage: true},
		{name: "ranges of different lengths", spec: "80-90:80", target: "web", want: "11 host ports do not fit 1 container ports", usage: true},
		{name: "published by the user", spec: "7000-7010:80-90", target: "web", want: "7001/tcp is published to web already"},
		{name: "published by docker", spec: "6000:80", target: "web", want: "docker has published 6000/tcp for db already"},
		{name: "held by dockerd", spec: "127.0.0.1:6000:80", target: "web", want: "docker has published 6000/tcp for db already"},
		{name: "listened on", spec: "20-30:20-30", target: "web", want: "port 22 is listened on by sshd (pid 1) on the host: stop it, or choose"},
		{name: "not an address of the host", spec: "192.0.2.99:80:80", target: "web", want: "192.0.2.99 is not an address of this host"},
		{name: "no such container", spec: "80:80", target: "nope", want: "no running container, namespace, veth or address is called nope"},
		{name: "ambiguous", spec: "80:80", want: "name one of db, web"},
		{name: "host network", spec: "80:80", target: "hosted", want: "hosted uses the host's network"},
		{name: "maps full", spec: "80:80", target: "web", broken: errBroken, want: "write maps: out of memory"},
	}
	l := newLab(t, dockerHost())
	db := container("db", "cccc3333", "172.17.0.3")
	db.Ports = []policy.ContainerPort{{HostPort: 6000, Port: 5432, Proto: policy.ProtoTCP}}
	l.observed.Containers = append(l.observed.Containers, db, policy.Container{ID: "dddd4444", Name: "hosted", NetworkMode: "host"})
	l.observed.Endpoints = append(l.observed.Endpoints, endpoint("vethdb", 6, 2, "172.17.0.3/16"))
	l.sockets[22], l.sockets[6000] = "sshd (pid 1)", "docker-proxy (pid 2)"
	l.start(false)
	l.attach("docker0")
	if _, err := l.publish("7001:80", "web"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(l.paths.State)
	if err != nil {
		t.Fatal(err)
	}
	tables := l.tables
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l.mu.Lock()
			l.syncError = tt.broken
			l.mu.Unlock()
			_, err := l.publish(tt.spec, tt.target)
			var refused *client.RequestError
			if !errors.As(err, &refused) || !strings.Contains(refused.Message, tt.want) || strings.Contains(refused.Message, "\n") {
				t.Fatalf("got %v, want %q in one line", err, tt.want)
			}
			if refused.Usage != tt.usage {
				t.Errorf("usage: %v, want %v", refused.Usage, tt.usage)
			}
			after, err := os.ReadFile(l.paths.State)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(before), string(after)); diff != "" {
				t.Errorf("state file (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(tables, l.tables); diff != "" {
				t.Errorf("tables (-before +after):\n%s", diff)
			}
		})
	}
}

// H-12: the agent's own part in publishing ten thousand ports is small.
func TestPublishManyPorts(t *testing.T) {
	l := newLab(t, dockerHost())
	for i := range 1000 {
		l.observed.Endpoints = append(l.observed.Endpoints, endpoint(fmt.Sprintf("v%d", i), 1000+i, 3, "10.0.0.1/8"))
	}
	l.start(false)
	l.attach("docker0")
	used := cpuTime(t)
	if _, err := l.publish("20000-29999:20000-29999", "web"); err != nil {
		t.Fatal(err)
	}
	if d := cpuTime(t) - used; d > time.Second {
		t.Errorf("took %v", d)
	}
	if n := len(l.tables.Publish); n != 10000 {
		t.Errorf("%d ports in the maps", n)
	}
}
