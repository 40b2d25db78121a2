package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// binaries are the programs that go into the machine, all static: where they are built from and where they stand inside.
type binary struct {
	pkg  string
	test bool // its tests, instead of itself
	path string
}

func binaries() []binary {
	return []binary{
		{pkg: "./tests/kernels/guest", path: "init"},
		{pkg: "./cmd/ebpfnet", path: "bin/ebpfnet"},
		{pkg: "./tests/probe", path: "bin/probe"},
		{pkg: "./tests/packet", test: true, path: "tests/packet/run"},
		{pkg: "./loader", test: true, path: "tests/loader/run"},
	}
}

// build builds the programs into dir, under the paths that they have inside.
func build(module, dir string) error {
	static := command{dir: module, env: []string{"CGO_ENABLED=0"}}
	for _, b := range binaries() {
		out := filepath.Join(dir, b.path)
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return err
		}
		args := []string{"build", "-trimpath", "-o", out, b.pkg}
		if b.test {
			args = []string{"test", "-c", "-trimpath", "-o", out, b.pkg}
		}
		if _, err := static.output("go", args...); err != nil {
			return fmt.Errorf("build %s: %w", b.pkg, err)
		}
		if !b.test {
			continue
		}
		if err := copyTestdata(filepath.Join(module, b.pkg, "testdata"), filepath.Join(filepath.Dir(out), "testdata")); err != nil {
			return fmt.Errorf("copy testdata of %s: %w", b.pkg, err)
		}
	}
	return nil
}

func copyTestdata(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if _, err := os.Stat(from); err != nil {
		return nil
	}
	return os.CopyFS(to, os.DirFS(from))
}

// image writes the machine's first root file system: folders to mount on, a console, the modules in the order in which they are loaded, and
// what was built.
func image(programs string, modules []module) ([]byte, error) {
	var buf bytes.Buffer
	a := newArchive(&buf)
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run", "etc", "root", "var", "var/lib", "var/log", "modules"} {
		a.dir(dir)
	}
	a.char("dev/console", 5, 1)
	for i, m := range modules {
		a.file(fmt.Sprintf("modules/%03d-%s.ko", i, m.name), 0o644, m.data)
	}
	err := filepath.WalkDir(programs, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(path, programs), "/")
		switch {
		case err != nil || name == "":
			return err
		case d.IsDir():
			a.dir(name)
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		a.file(name, 0o755, data)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make initramfs: %w", err)
	}
	if err := a.close(); err != nil {
		return nil, fmt.Errorf("make initramfs: %w", err)
	}
	return buf.Bytes(), nil
}

// vmlinuz finds a kernel in the folder that its packages were unpacked into.
func vmlinuz(root string) (string, error) {
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz"} {
		if found, err := filepath.Glob(filepath.Join(root, pattern)); err == nil && len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("find kernel in %s: no vmlinuz", root)
}
