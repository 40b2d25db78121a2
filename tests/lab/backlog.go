package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// The kernel keeps what a virtual device has been sent in one queue per CPU, and drops what comes when that is full, without a word to
// either end. All hosts of a suite share it, so one test's flood would cost another test the only packet that it sends.
const (
	backlogPath = "/proc/sys/net/core/netdev_max_backlog"
	backlogLen  = 1 << 17 // packets, for each CPU
)

// deepenBacklog makes that queue long enough, and returns what puts its old length back. Where the setting cannot be seen, in a network
// namespace other than the machine's, it stays as it is.
func deepenBacklog() (restore func() error, err error) {
	nothing := func() error { return nil }
	b, err := os.ReadFile(backlogPath)
	if errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 {
		return nothing, nil
	}
	if err != nil {
		return nothing, err
	}
	old := strings.TrimSpace(string(b))
	n, err := strconv.Atoi(old)
	if err != nil {
		return nothing, fmt.Errorf("%s: %w", backlogPath, err)
	}
	if n >= backlogLen {
		return nothing, nil
	}
	if err := os.WriteFile(backlogPath, []byte(strconv.Itoa(backlogLen)), 0); err != nil {
		return nothing, err
	}
	return func() error { return os.WriteFile(backlogPath, []byte(old), 0) }, nil
}
