package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/ebpfnet/ebpfnet/policy/overlay"
)

// The keys of the subnet file, as flannel names them.
const (
	envNetwork    = "FLANNEL_NETWORK"
	envSubnet     = "FLANNEL_SUBNET"
	envMTU        = "FLANNEL_MTU"
	envMasquerade = "FLANNEL_IPMASQ"
)

// WriteSubnetFile tells the shell what this host's containers are to be given, in flannel's format: FLANNEL_SUBNET is the bridge's address
// with the subnet's length. mtu is that of the containers.
func WriteSubnetFile(path string, n overlay.Network, subnet netip.Prefix, mtu int) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s=%s\n%s=%s\n%s=%d\n%s=%t\n", envNetwork, n.Prefix, envSubnet, bridgeAddress(subnet), envMTU, mtu, envMasquerade, true)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, b.Bytes()) {
		return nil
	}
	if err := writeFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write subnet file: %w", err)
	}
	return nil
}

// bridgeAddress is the first address that a host may have in a subnet, with its length.
func bridgeAddress(subnet netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits())
}

// ReadSubnetFile gives the subnet that a subnet file names, whoever wrote it; invalid where there is no file.
func ReadSubnetFile(path string) (netip.Prefix, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return netip.Prefix{}, nil
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read subnet file: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), envSubnet+"="); ok {
			p, err := netip.ParsePrefix(v)
			if err != nil {
				return netip.Prefix{}, fmt.Errorf("read subnet file %s: %s: %w", path, envSubnet, err)
			}
			return p.Masked(), nil
		}
	}
	return netip.Prefix{}, nil
}

// Docker's name for its default bridge's address and for the MTU that it gives to containers.
const (
	dockerBridgeIP = "bip"
	dockerMTU      = "mtu"
)

// WriteDockerConfig puts the subnet and the MTU into dockerd's configuration file. All else in it stays. Where one of the two stands there
// already with another value, nothing is written: whoever put it there meant it. Out: whether the file was changed, so that dockerd has to
// be restarted.
func WriteDockerConfig(path string, subnet netip.Prefix, mtu int) (changed bool, err error) {
	config := map[string]json.RawMessage{}
	mode := fs.FileMode(0o644)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, fmt.Errorf("write docker's configuration: %w", err)
	case len(bytes.TrimSpace(b)) > 0:
		if err := json.Unmarshal(b, &config); err != nil {
			return false, fmt.Errorf("write docker's configuration %s: %w", path, err)
		}
	}
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	want := []struct {
		key   string
		value any
	}{{dockerBridgeIP, bridgeAddress(subnet).String()}, {dockerMTU, mtu}}
	for _, w := range want {
		value, err := json.Marshal(w.value)
		if err != nil {
			return false, fmt.Errorf("write docker's configuration: %w", err)
		}
		have, there := config[w.key]
		if there && !bytes.Equal(bytes.TrimSpace(have), value) {
			return false, fmt.Errorf("write docker's configuration %s: it has %q: %s, and this host's is %s: change or remove it, and restart dockerd",
				path, w.key, have, value)
		}
		if !there {
			config[w.key], changed = value, true
		}
	}
	if !changed {
		return false, nil
	}
	out, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return false, fmt.Errorf("write docker's configuration: %w", err)
	}
	if err := writeFile(path, append(out, '\n'), mode); err != nil {
		return false, fmt.Errorf("write docker's configuration: %w", err)
	}
	return true, nil
}
