package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A socket bound to 127.0.0.1 is answered through the bridge's device, and the kernel takes packets of 127.0.0.0/8 there only with this
// setting. Programs drop such packets that come from a container or from the wire.
const routeLocalnet = "route_localnet"

// Such a socket's first packet makes the kernel ask for the container's link-layer address, and by default it would ask in the name of
// 127.0.0.1, which no container answers. 1 keeps it to an address of the bridge's own network.
const arpAnnounce = "arp_announce"

// sysctls sets per-device IPv4 settings and puts them back. The zero root is the kernel's own tree.
type sysctls struct {
	root string // /proc/sys/net/ipv4/conf
}

func (s sysctls) path(bridge, name string) string {
	root := s.root
	if root == "" {
		root = "/proc/sys/net/ipv4/conf"
	}
	return filepath.Join(root, bridge, name)
}

func (s sysctls) read(bridge, name string) (string, error) {
	b, err := os.ReadFile(s.path(bridge, name))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s of %s: %w", name, bridge, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (s sysctls) write(bridge, name, value string) error {
	if err := os.WriteFile(s.path(bridge, name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s of %s: %w", name, bridge, err)
	}
	return nil
}

// ensure gives the setting the value on a bridge. It calls remember with the records as they must be kept, before it changes anything, and
// returns them.
func (s sysctls) ensure(records []SysctlRecord, bridge string, index int, name, value string,
	remember func([]SysctlRecord) error) ([]SysctlRecord, error) {
	found, err := s.read(bridge, name)
	if err != nil {
		return records, err
	}
	at := slices.IndexFunc(records, func(r SysctlRecord) bool { return r.Bridge == bridge && r.Name == name })
	if at < 0 || records[at].Index != index {
		records = slices.Clone(records)
		record := SysctlRecord{Bridge: bridge, Index: index, Name: name, Found: found}
		if at < 0 {
			records = append(records, record)
		} else {
			records[at] = record
		}
		if err := remember(records); err != nil {
			return records, err
		}
	}
	if found == value {
		return records, nil
	}
	return records, s.write(bridge, name, value)
}

// restore puts a setting back. A device that is gone took its settings with it.
func (s sysctls) restore(r SysctlRecord) error {
	current, err := s.read(r.Bridge, r.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if current == r.Found {
		return nil
	}
	return s.write(r.Bridge, r.Name, r.Found)
}
