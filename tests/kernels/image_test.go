package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unpackNewc reads an archive as the kernel does: "MODE NAME DATA", and "MAJOR:MINOR" for a device.
func unpackNewc(t *testing.T, b []byte) []string {
	t.Helper()
	var found []string
	for at := 0; at < len(b); {
		field := func(i int) int {
			n, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatalf("field %d at %d: %v", i, at, err)
			}
			return int(n)
		}
		if string(b[at:at+6]) != "070701" {
			t.Fatalf("no entry at %d", at)
		}
		mode, size, major, minor, length := field(1), field(6), field(9), field(10), field(11)
		name := string(b[at+110 : at+110+length-1])
		if name == "TRAILER!!!" {
			return found
		}
		data := (at + 110 + length + 3) &^ 3
		line := fmt.Sprintf("%o %s %s", mode, name, b[data:data+size])
		if major != 0 {
			line = fmt.Sprintf("%o %s %d:%d", mode, name, major, minor)
		}
		found = append(found, line)
		at = (data + size + 3) &^ 3
	}
	t.Fatal("the archive has no end")
	return nil
}

func TestImage(t *testing.T) {
	programs := t.TempDir()
	for path, data := range map[string]string{"init": "12345", "bin/a": "", "bin/bc": "6"} {
		path = filepath.Join(programs, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	img, err := image(programs, []module{{"llc", []byte("L")}, {"bridge", []byte("BRIDGE")}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"20600 dev/console 5:1", "100644 modules/000-llc.ko L", "100644 modules/001-bridge.ko BRIDGE",
		"40755 bin ", "100755 bin/a ", "100755 bin/bc 6", "100755 init 12345",
	}
	var got []string
	for _, line := range unpackNewc(t, img) {
		if !bytes.HasPrefix([]byte(line), []byte("40755 ")) || line == "40755 bin " {
			got = append(got, line)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDepends(t *testing.T) {
	for _, tt := range []struct {
		name, modinfo string
		want          []string
	}{
		{"two", "license=GPL\x00depends=stp,llc\x00name=bridge\x00", []string{"stp", "llc"}},
		{"none", "depends=\x00retpoline=Y\x00", []string{}},
		{"not said", "license=GPL\x00", nil},
		{"another word", "softdepends=x\x00depends=y\x00", []string{"y"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, depends([]byte(tt.modinfo))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
