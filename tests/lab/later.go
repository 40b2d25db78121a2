package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Later builds the product as a later version might be: the layout has another number, flows and endpoints have fields more, in their middle.
// It takes clang, as `make generate` does.
func (s *Suite) Later(t testing.TB) string {
	t.Helper()
	bin, err := s.later()
	if err != nil {
		t.Fatalf("build a later version: %v", err)
	}
	return bin
}

func (s *Suite) later() (string, error) {
	dir, err := s.dir()
	if err != nil {
		return "", err
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	module := filepath.Dir(strings.TrimSpace(string(mod)))
	tree := filepath.Join(dir, "later")
	for _, part := range []string{"bpf", "loader", "maps", "metrics", "policy", "agent", "cmd"} {
		if err := os.CopyFS(filepath.Join(tree, part), os.DirFS(filepath.Join(module, part))); err != nil {
			return "", err
		}
	}
	for _, file := range []string{"go.mod", "go.sum", "Makefile"} {
		b, err := os.ReadFile(filepath.Join(module, file))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(tree, file), b, 0o600); err != nil {
			return "", err
		}
	}
	err = edit(filepath.Join(tree, "bpf/types.h"), `(?m)^struct flow4 \{$`, "${0}\n\t__u32 later;\n\t__u32 later_too;")
	if err == nil {
		err = edit(filepath.Join(tree, "bpf/types.h"), `(?m)^struct endpoint4 \{$`, "${0}\n\t__u32 later;")
	}
	if err == nil {
		err = edit(filepath.Join(tree, "loader/paths.go"), `const Layout = \d+`, "const Layout = "+strconv.Itoa(laterLayout))
	}
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "ebpfnet-later")
	for _, words := range [][]string{{"make", "generate"}, {"go", "build", "-o", out, "./cmd/ebpfnet"}} {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = tree
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, msg)
		}
	}
	return out, nil
}

// laterLayout is far above those that there are.
const laterLayout = 1000

// edit changes the one place in a file where a pattern matches.
func edit(path, pattern, with string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	re := regexp.MustCompile(pattern)
	if n := len(re.FindAll(b, -1)); n != 1 {
		return fmt.Errorf("%s: %d places match %s", path, n, pattern)
	}
	return os.WriteFile(path, re.ReplaceAll(b, []byte(with)), 0o600)
}

// Become has the instance run another build of the product from its next command on. The agent that runs stays what it is.
func (in *Instance) Become(bin string) (before string) {
	before, in.bin = in.bin, bin
	return before
}
