package loader

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// gracePath is where the kernel is told to make grace periods short (Documentation/admin-guide/kernel-parameters.txt, rcu_expedited): a number,
// 0 for the usual. To put a program on a tcx hook waits for one with the lock of all network devices held: about 13 ms at 250 Hz, twice for each
// container, in which packets wait too, and nobody else can change a device.
const gracePath = "/sys/kernel/rcu_expedited"

// graceMark is the number that we write: one that is found there belongs to an agent that died.
const graceMark = 0x65627066

// expedited runs fn with short grace periods, where the kernel can be told so; otherwise as it is. What was there before is there afterwards,
// whatever else runs this at the same time.
func expedited(fn func() error) error {
	f, err := os.OpenFile(gracePath, os.O_RDWR, 0)
	if err != nil {
		return fn()
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX) != nil {
		return fn()
	}
	before, err := readGrace(f)
	if err != nil || before != 0 && before != graceMark {
		return fn()
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(graceMark)), 0); err != nil {
		return fn()
	}
	// Whoever writes it meanwhile is heard.
	defer func() {
		if now, err := readGrace(f); err == nil && now == graceMark {
			_, _ = f.WriteAt([]byte("0\n"), 0)
		}
	}()
	return fn()
}

func readGrace(f *os.File) (int, error) {
	b := make([]byte, 16)
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b[:n])))
}
