package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/policy"
)

// remembered is what Docker said last. An agent that starts while dockerd is away finds containers that live on without it (live-restore):
// whose ports are published, which network is internal, and what they are called is only here then. The file goes with a reboot, as they do.
type remembered struct {
	Containers []policy.Container `json:"containers"`
	Networks   []policy.Network   `json:"networks"`
}

// loadRemembered gives what an agent before this one has left; nothing where there is nothing to be read.
func loadRemembered(path string) (remembered, error) {
	var r remembered
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return remembered{}, fmt.Errorf("read what Docker said last: %w", err)
	}
	return r, nil
}

// rememberDocker keeps what Docker says, where it has changed. While nothing is attached there is nothing to be known.
func (a *Agent) rememberDocker(o policy.Observed) error {
	b, err := json.Marshal(inOrder(o))
	if err != nil || bytes.Equal(b, a.said) {
		return err
	}
	if err := replaceFile(a.o.Paths.Docker, b); err != nil {
		return fmt.Errorf("keep what Docker says: %w", err)
	}
	a.said = b
	return nil
}

// inOrder is what is kept, in an order of its own: Docker lists as it likes.
func inOrder(o policy.Observed) remembered {
	r := remembered{slices.Clone(o.Containers), slices.Clone(o.Networks)}
	slices.SortFunc(r.Containers, func(a, b policy.Container) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(r.Networks, func(a, b policy.Network) int { return strings.Compare(a.ID, b.ID) })
	for i := range r.Containers {
		c := &r.Containers[i]
		c.Ports = slices.Clone(c.Ports)
		slices.SortFunc(c.Ports, func(a, b policy.ContainerPort) int {
			return cmp.Or(cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Proto, b.Proto), a.HostIP.Compare(b.HostIP))
		})
	}
	return r
}

// forgetDocker removes the file.
func (a *Agent) forgetDocker() error {
	a.said = nil
	return removeFile(a.o.Paths.Docker)
}

// replaceFile writes a file that only its owner may read, so that a reader finds the old content or the new.
func replaceFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// removeFile removes a file and what an interrupted replaceFile left of it. No path is no file.
func removeFile(path string) error {
	if path == "" {
		return nil
	}
	for _, p := range []string{path, path + ".new"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
