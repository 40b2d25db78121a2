package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// defaultDockerHost is where dockerd listens unless it is told otherwise.
const defaultDockerHost = "unix:///var/run/docker.sock"

// docker asks the daemon whether it is there. Without it containers are found all the same, and have no names.
func docker(ctx context.Context, host string) api.Finding {
	if host == "" {
		host = defaultDockerHost
	}
	f := api.Finding{Level: Note, Check: "docker", Advice: "containers are found from the kernel; names, labels and Docker's ports are not known"}
	network, address, ok := strings.Cut(host, "://")
	if !ok || network == "ssh" || network == "npipe" {
		f.Level, f.Found, f.Advice = Warning, fmt.Sprintf("%q is no address that this host can dial", host), "use unix:///PATH or tcp://ADDRESS:PORT"
		return f
	}
	if network == "http" || network == "https" {
		network = "tcp"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		f.Found = err.Error()
		return f
	}
	resp, err := client.Do(req)
	if err != nil {
		f.Found = "no answer at " + host
		return f
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.Found = fmt.Sprintf("%s answers %s", host, resp.Status)
		return f
	}
	return api.Finding{Level: OK, Check: "docker",
		Found: fmt.Sprintf("%s answers, version %s of its API", host, resp.Header.Get("Api-Version"))}
}
