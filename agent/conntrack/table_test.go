package conntrack

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// open gives the table of a network namespace of the test's own.
func open(t *testing.T) *Table {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	table, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

func tuple(proto uint8, src, dst string) Tuple {
	return Tuple{Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst), Proto: proto}
}

// What is entered is what stands there, translation included.
func TestTable(t *testing.T) {
	const answered = Confirmed | SeenReply | Assured
	for _, tt := range []struct {
		name string
		e    Entry
	}{
		{"masqueraded tcp", Entry{
			Orig: tuple(6, "172.17.0.2:5000", "203.0.113.2:80"), Reply: tuple(6, "203.0.113.2:80", "192.0.2.1:6000"),
			Status: answered, Timeout: time.Hour, TCP: TCPEstablished,
		}},
		{"published udp", Entry{
			Orig: tuple(17, "203.0.113.2:5000", "192.0.2.1:8080"), Reply: tuple(17, "172.17.0.2:80", "203.0.113.2:5000"),
			Status: answered, Timeout: time.Minute,
		}},
		{"hairpin", Entry{
			Orig: tuple(17, "172.17.0.2:5000", "192.0.2.1:8080"), Reply: tuple(17, "172.17.0.2:80", "172.17.0.1:5000"),
			Status: answered, Timeout: time.Minute,
		}},
		{"not translated", Entry{
			Orig: tuple(6, "172.17.0.2:5000", "172.17.0.3:80"), Reply: tuple(6, "172.17.0.3:80", "172.17.0.2:5000"),
			Status: answered, Timeout: time.Hour, TCP: TCPFinWait,
		}},
		{"masqueraded ping", Entry{
			Orig: tuple(1, "172.17.0.2:77", "203.0.113.2:0"), Reply: tuple(1, "203.0.113.2:0", "192.0.2.1:78"),
			Status: Confirmed | SeenReply, Timeout: 20 * time.Second,
		}},
		{"not answered", Entry{
			Orig: tuple(17, "172.17.0.2:5000", "203.0.113.2:80"), Reply: tuple(17, "203.0.113.2:80", "192.0.2.1:6000"),
			Status: Confirmed, Timeout: 20 * time.Second,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := open(t)
			if err := table.Create(tt.e); err != nil {
				t.Fatal(err)
			}
			if err := table.Create(tt.e); !errors.Is(err, ErrExists) {
				t.Errorf("created twice: %v, want ErrExists", err)
			}
			listed := func(want ...Entry) {
				t.Helper()
				got, err := table.List()
				if err != nil {
					t.Fatal(err)
				}
				nat := cmp.Transformer("status", func(s Status) uint32 { return uint32(s & (answered | Expected)) })
				near := cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < 5*time.Second })
				if diff := cmp.Diff(want, got, nat, near, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("table: %s", diff)
				}
			}
			listed(tt.e)
			tt.e.Timeout *= 3
			if err := table.Update(tt.e); err != nil {
				t.Fatal(err)
			}
			listed(tt.e)
			for range 2 {
				if err := table.Delete(tt.e.Orig); err != nil {
					t.Fatal(err)
				}
			}
			listed()
		})
	}
}
