package lab

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
)

// Image is the containers' image: busybox and the probe, which serves TCP and UDP on 80 and 81 and HTTP on 8000 by default.
const Image = "lab"

// buildImage makes the image's root file system as a tar archive.
func (s *Suite) buildImage() ([]byte, error) {
	probe, err := s.Build("./tests/probe")
	if err != nil {
		return nil, err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{"bin/", "tmp/", "etc/", "proc/", "sys/", "dev/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	for name, path := range map[string]string{"bin/probe": probe, "bin/busybox": busybox} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	for _, applet := range []string{"sh", "ping", "arping", "nc", "ip", "cat", "sleep", "true"} {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("close image: %w", err)
	}
	return buf.Bytes(), nil
}
