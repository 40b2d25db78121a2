package main

import (
	"fmt"
	"io"
)

// archive writes a cpio archive in the "newc" form that the kernel unpacks as its first root file system
// (Documentation/driver-api/early-userspace/buffer-format.rst in Linux). Everything in it belongs to root.
type archive struct {
	w       io.Writer
	written int64
	inode   int
	err     error
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeChar = 0o020000
)

func newArchive(w io.Writer) *archive { return &archive{w: w} }

func (a *archive) dir(name string) { a.entry(name, modeDir|0o755, nil, 0, 0) }

func (a *archive) file(name string, perm int, data []byte) { a.entry(name, modeFile|perm, data, 0, 0) }

func (a *archive) char(name string, major, minor int) {
	a.entry(name, modeChar|0o600, nil, major, minor)
}

// close ends the archive and gives the first error there was.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil, 0, 0)
	return a.err
}

func (a *archive) entry(name string, mode int, data []byte, major, minor int) {
	a.inode++
	a.write([]byte("070701"))
	for _, field := range []int{a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0} {
		a.write(fmt.Appendf(nil, "%08x", field))
	}
	a.write([]byte(name + "\x00"))
	a.pad()
	a.write(data)
	a.pad()
}

func (a *archive) pad() { a.write(make([]byte, -a.written&3)) }

func (a *archive) write(b []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(b)
	a.written += int64(n)
	a.err = err
}
