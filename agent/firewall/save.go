package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// saveNFTables reads iptables' rules out of nf_tables, where its tables are in there.
func saveNFTables(ctx context.Context, chains []nftChain) (*ruleset, error) {
	if !slices.ContainsFunc(chains, nftChain.ofIPTables) {
		return newRuleset(), nil
	}
	s, err := save(ctx, "iptables-nft-save")
	if errors.Is(err, exec.ErrNotFound) && !slices.ContainsFunc(chains, func(c nftChain) bool { return c.family == "ip" && dockerChain(c.name) }) {
		return newRuleset(), nil // its chains are judged like any other of nftables
	}
	return s, err
}

// saveLegacy reads the rules of iptables' older backend, where the kernel has some in this namespace. Asking for others would make them.
func saveLegacy(ctx context.Context) (*ruleset, error) {
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list legacy iptables' tables: %w", err)
	}
	if len(bytes.TrimSpace(names)) == 0 {
		return newRuleset(), nil
	}
	return save(ctx, "iptables-legacy-save")
}

// save runs one of iptables' programs that print all rules.
func save(ctx context.Context, name string) (*ruleset, error) {
	path, err := find(name)
	if err != nil {
		return nil, fmt.Errorf("there are rules that only %s can tell: install iptables: %w", name, err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	s := newRuleset()
	parsed := parseSave(out, s.add)
	if parsed != nil {
		cmd.Cancel()
	}
	if err := cmd.Wait(); err != nil && parsed == nil {
		return nil, fmt.Errorf("run %s: %w: %s", name, err, lastLine(stderr.String()))
	}
	if parsed != nil {
		return nil, fmt.Errorf("read what %s prints: %w", name, parsed)
	}
	s.finish()
	return s, nil
}

// find looks in the administrator's directories too, which a plain user's PATH does not have.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
