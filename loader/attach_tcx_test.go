package loader

import (
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A device of the same number in another network namespace is another device.
func TestSameIndexElsewhere(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	d := loadEmpty(t, p, probed(t, hookTCX))
	first := newVeth(t, "c0", 0)
	if err := d.AttachVeth(first); err != nil {
		t.Fatal(err)
	}
	t.Run("elsewhere", func(t *testing.T) {
		// The pins tell of the first device only; attaching must not take its link for this one's.
		done := make(chan struct{})
		go func() {
			defer close(done)
			elsewhere(t, first, d)
		}()
		<-done
	})
}

func elsewhere(t *testing.T, ifindex int, d *Datapath) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Error(err)
		return
	}
	newVeth(t, "x0", ifindex)
	if err := d.AttachVeth(ifindex); err != nil {
		t.Error(err)
		return
	}
	if tcx, _ := onDevice(t, ifindex, ingress); !slices.Equal(tcx, []uint32{programID(t, d.TC.FromContainer)}) {
		t.Errorf("programs %v", tcx)
	}
}

// K-3: another's TCX program stays, and still runs behind ours for a packet that we pass on.
func TestForeignTCX(t *testing.T) {
	newNamespace(t)
	p := newPaths(t)
	f := probed(t, hookTCX)
	foreign, runs := counter(t)
	veth := newVeth(t, "c0", 0)
	d := mustLoad(t, p, f)
	if err := d.AttachVeth(veth); err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: veth, Program: foreign, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d = mustLoad(t, p, f)
	if err := d.AttachVeth(veth); err != nil {
		t.Fatal(err)
	}
	want := []uint32{programID(t, d.TC.FromContainer), programID(t, foreign)}
	if got, _ := onDevice(t, veth, ingress); !slices.Equal(got, want) {
		t.Errorf("programs %v, want ours and theirs: %v", got, want)
	}
	sendFrame(t, "c0p")
	deadline := time.Now().Add(5 * time.Second)
	for n := uint64(0); n == 0; runtime.Gosched() {
		if err := runs.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("their program did not run behind ours")
		}
	}
	if err := RemoveAll(p); err != nil {
		t.Fatal(err)
	}
	if got, _ := onDevice(t, veth, ingress); !slices.Equal(got, want[1:]) {
		t.Errorf("programs %v, want theirs only: %v", got, want[1:])
	}
}

// sendFrame sends one broadcast frame of an experimental protocol (IEEE 802, local experimental ethertype 1) from a device.
func sendFrame(t *testing.T, dev string) {
	t.Helper()
	const proto = 0x88B5
	i, err := net.InterfaceByName(dev)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	frame := make([]byte, 60)
	for n := range 6 {
		frame[n] = 0xFF
	}
	copy(frame[6:], i.HardwareAddr)
	frame[12], frame[13] = proto>>8, proto&0xFF
	if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: htons(proto)}); err != nil {
		t.Fatal(err)
	}
}
