package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ebpfnet/ebpfnet/policy"
)

// stateVersion is the layout of the state file. A newer one is refused rather than misread.
const stateVersion = 1

// State is what outlives a reboot: what the user asked for, and what must be put back when the datapath is taken off.
type State struct {
	Version int            `json:"version"`
	Intent  policy.Intent  `json:"intent"`
	Sysctls []SysctlRecord `json:"sysctls,omitempty"`
}

// SysctlRecord is a bridge's setting as it was before the agent changed it. Index is the device's ifindex: a bridge that was made anew
// under the same name starts from its own default.
type SysctlRecord struct {
	Bridge string `json:"bridge"`
	Index  int    `json:"ifindex"`
	Name   string `json:"name"`
	Found  string `json:"found"`
}

// LoadState reads the state file. A file that is not there is an empty state.
func LoadState(path string) (State, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Version: stateVersion}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}
	var s State
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return State{}, fmt.Errorf("read state %s: %w", path, err)
	}
	if version.Version != stateVersion {
		return State{}, fmt.Errorf("read state %s: its version is %d and this ebpfnet knows version %d: use the ebpfnet that wrote it, or "+
			"remove the file and attach again", path, version.Version, stateVersion)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("read state %s: %w", path, err)
	}
	return s, nil
}

// SaveState writes the state file so that a crash at any point leaves the old one or the new one.
func SaveState(path string, s State) (err error) {
	s.Version = stateVersion
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	// The rename itself is on disk once the folder is.
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// RemoveState removes the state file, what an interrupted write left beside it, and its folder and that folder's parent where they are
// empty then.
func RemoveState(path string) error {
	files, err := filepath.Glob(path + "*")
	if err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove state: %w", err)
		}
	}
	removeEmpty(filepath.Dir(path), filepath.Dir(filepath.Dir(path)))
	return nil
}

// removeEmpty removes folders, in order, as long as they are empty. Others may use them, so a full one is no error.
func removeEmpty(dirs ...string) {
	for _, dir := range dirs {
		if os.Remove(dir) != nil {
			return
		}
	}
}
