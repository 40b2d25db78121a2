package lease

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// Memory is what a member knows from before: enough to go on while etcd is away. It is a file of its own, because it is written whenever a
// peer changes.
type Memory struct {
	Node    string          `json:"node"`              // this host's id; never changes
	MAC     string          `json:"mac,omitempty"`     // the tunnel endpoint's, as published
	Subnet  netip.Prefix    `json:"subnet,omitzero"`   // held or wanted
	Network json.RawMessage `json:"network,omitempty"` // the configuration, as stored
	Entries []overlay.Entry `json:"entries,omitempty"` // the others' records, as stored
}

// LoadMemory reads the file. One that is not there is a new host, which gets an id.
func LoadMemory(path string) (Memory, error) {
	var m Memory
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return m, fmt.Errorf("read overlay state: %w", err)
	default:
		if err := json.Unmarshal(b, &m); err != nil {
			return m, fmt.Errorf("read overlay state %s: %w", path, err)
		}
	}
	if m.Node == "" {
		m.Node = randomID()
		return m, m.save(path)
	}
	return m, nil
}

func (m *Memory) save(path string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write overlay state: %w", err)
	}
	if err := writeFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write overlay state: %w", err)
	}
	return nil
}

func (m *Memory) mac() net.HardwareAddr {
	mac, err := net.ParseMAC(m.MAC)
	if err != nil || len(mac) != 6 {
		return nil
	}
	return mac
}

// LoadSession gives the id of this boot's agent: a file that a copy of the machine's disk does not have.
func LoadSession(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(b) > 0 {
		return string(b), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read session: %w", err)
	}
	id := randomID()
	if err := writeFile(path, []byte(id), 0o600); err != nil {
		return "", fmt.Errorf("write session: %w", err)
	}
	return id, nil
}

func randomID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// RemoveFile removes a file that this package wrote, where it is, and what a writer that was killed left beside it. No path is no file.
func RemoveFile(path string) error {
	if path == "" {
		return nil
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), unfinished(path)))
	if err != nil {
		return err
	}
	for _, f := range append(left, path) {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unfinished is the pattern (os.CreateTemp) of the names that a file has while it is written.
func unfinished(path string) string { return "." + filepath.Base(path) + ".*" }

// writeFile puts a whole file in place of another: nobody reads a half one.
func writeFile(path string, b []byte, mode fs.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), unfinished(path))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(b); err != nil {
		return err
	}
	if err = tmp.Chmod(mode); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
