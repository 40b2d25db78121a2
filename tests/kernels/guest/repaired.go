package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ebpfnet/ebpfnet/loader"
)

// repaired has somebody take the qdisc away that filters hang on, and where there are none, one that is not ours. K-3: what was ours comes back.
func (w *world) repaired(f loader.Features) (string, error) {
	link, err := netlink.LinkByName(uplink)
	if err != nil {
		return "", err
	}
	qdisc := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}, QdiscType: "clsact",
	}
	if f.TCX {
		if err := netlink.QdiscAdd(qdisc); err != nil {
			return "", fmt.Errorf("add a qdisc to %s: %w", uplink, err)
		}
	}
	if err := netlink.QdiscDel(qdisc); err != nil {
		return "", fmt.Errorf("delete the qdisc of %s: %w", uplink, err)
	}
	want := fmt.Sprintf("%s ingress 1, egress 1", f.Hook())
	began := time.Now()
	err = eventually(30*time.Second, func() error {
		if on, err := hooksOf(uplink); err != nil || on != want {
			return fmt.Errorf("%s has %s, not %s: %v", uplink, on, want, err)
		}
		return nil
	})
	return fmt.Sprintf("after %d ms", time.Since(began).Milliseconds()), errors.Join(err, w.expect(w.c1, "tcp", outside+":80", "out", hostOut))
}
